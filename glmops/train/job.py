"""What the process that starts a training and those that do it say to each other, in one folder.

job.json             what to train, written before they start
rank-N.log           what process N printed
rank-N.error.json    why it ended
result.json          the history and the numbers, from the first process
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glmops import errors
from glmops.errors import GlmopsError
from glmops.recipe import Train
from glmops.storage import read_json, write_json
from glmops.train.points import Point

_KINDS = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, GlmopsError)
}


@dataclass(frozen=True, slots=True)
class Job:
    """``encoded`` is read, ``scratch`` survives a kill, ``out`` is written; ``root`` is the
    project."""

    encoded: Path
    root: Path
    scratch: Path
    out: Path
    settings: Train

    def write(self, folder: Path) -> Path:
        paths = {name: str(getattr(self, name)) for name in ("encoded", "root", "scratch", "out")}
        write_json(folder / "job.json", paths | {"train": self.settings.model_dump(mode="json")})
        return folder / "job.json"


def read_job(path: Path) -> Job:
    told = read_json(path)
    settings = Train.model_validate(told.pop("train"))
    return Job(**{name: Path(value) for name, value in told.items()}, settings=settings)


def log_of(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.log"


def write_error(folder: Path, rank: int, error: GlmopsError) -> None:
    """An error raised on purpose, for the one who started this process to raise again."""
    record = {"kind": type(error).__name__, "text": str(error)}
    fields = {name: str(getattr(error, name)) for name in ("where", "what", "do")}
    write_json(folder / f"rank-{rank}.error.json", record | fields)


def read_error(folder: Path, rank: int) -> GlmopsError | None:
    """The same line and exit code as in the process where it was raised."""
    path = folder / f"rank-{rank}.error.json"
    if not path.is_file():
        return None
    record = read_json(path)
    kind = _KINDS.get(record["kind"], GlmopsError)
    error = kind(record["where"], record["what"], do=record["do"])
    error.args = (record["text"],)
    return error


def write_result(folder: Path, history: list[Point], numbers: dict[str, Any]) -> None:
    record = {"history": [asdict(point) for point in history], "numbers": numbers}
    write_json(folder / "result.json", record)


def read_result(folder: Path) -> tuple[list[Point], dict[str, Any]] | None:
    """None where the first process ran on another machine."""
    if not (folder / "result.json").is_file():
        return None
    record = read_json(folder / "result.json")
    return [Point(**point) for point in record["history"]], record["numbers"]
