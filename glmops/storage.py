"""Where things lie in a project, and how files are written so that a kill leaves no half."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmops.errors import InputError

STAGES = ("prepare", "encode", "train", "evaluate")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one recipe below a project root. Holds no state and makes no folder."""

    root: Path
    name: str

    @property
    def prepared(self) -> Path:
        """train, dev, test and quarantine, as Parquet."""
        return self.root / "data" / "prepared" / self.name

    @property
    def encoded(self) -> Path:
        """Token ids and loss masks as Arrow streams, with the tokenizer and the contract."""
        return self.root / "data" / "encoded" / self.name

    @property
    def model(self) -> Path:
        """The trained checkpoint: equal inputs give equal bytes here."""
        return self.root / "models" / self.name

    def reports(self, stage: str) -> Path:
        return self.root / "reports" / self.name / stage

    def work(self, stage: str) -> Path:
        """Scratch that DVC never sees: what must survive a killed or refused stage."""
        return self.root / ".glmops" / "work" / stage / self.name


def project_root(start: Path | None = None) -> Path:
    """The nearest folder at or above ``start`` (default: here) that holds dvc.yaml and recipes/."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "recipes").is_dir():
            return folder
    raise InputError(
        here,
        "no glmops project here or in a folder above (dvc.yaml and recipes/ not found)",
        do="Change into your clone of the project.",
    )


def link_raw(root: Path, name: str, raw: Path) -> str:
    """Put a link to the user's rows at data/raw/NAME; returns that path, relative to ``root``.

    A file becomes a link inside a folder, a folder a link of its own: in both places DVC looks
    behind the link and notices edits (behind a link to a folder inside a folder it sees nothing),
    while the rows stay where their owner keeps them.
    """
    place = root / "data" / "raw" / name
    links = [place] if place.is_symlink() else list(place.glob("*")) if place.is_dir() else []
    for old in links:
        if old.is_symlink():
            old.unlink()
    if raw.is_dir():
        if place.is_dir():
            place.rmdir()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(raw.resolve(), target_is_directory=True)
    else:
        place.mkdir(parents=True, exist_ok=True)
        (place / raw.name).symlink_to(raw.resolve())
    return place.relative_to(root).as_posix()


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: a new file is renamed over the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: Path, value: Any) -> None:
    """Sorted keys and a final newline, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(path, "no such file", do="Run the stage that writes it.") from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{error.lineno}", f"not JSON ({error.msg})", do="Make the file again."
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(path, f"not UTF-8 ({error.reason})", do="Make the file again.") from None


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[Any]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """A folder that appears under its name only when it is whole.

    Yields a new folder beside ``path``; on success it replaces ``path``, on any error it goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield draft
        draft.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        draft.rename(path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_json(value: Any) -> str:
    """Hash of a JSON value, whatever the order of its keys."""
    return sha256_text(json.dumps(value, ensure_ascii=False, sort_keys=True))


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(folder: Path) -> dict[str, str]:
    """Relative POSIX path → sha256 of every file below ``folder``, in path order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
