"""A run as it is seen while it goes on: one line of JSON for each moment, in a file of its scratch.

The training process only appends to that file. Whoever shows the run (a bar on a terminal, MLflow)
reads it from another thread or process, so that none of them can slow training down or end it, and
what they missed is still there when they come back. A resumed run goes on in the same file.

    {"training": key, "attempt": id}                      first of all: its inputs, and a name
    {"time", "phase", "step", "of", "tokens"}             it goes on
    {…, "values": {"loss": …, "tokens_per_second": …}}    and this was measured
    {"time", "said": …}                                   a line for people
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from transformers import TrainerCallback

from glmops.storage import sha256_json, sha256_tree
from glmops.train import ranks

if TYPE_CHECKING:
    from glmops.recipe import Train

SPOOL = "live.jsonl"
NAMES = {"grad_norm": "gradient_norm", "loss": "loss", "learning_rate": "learning_rate"}
PROGRESS = ("phase", "step", "tokens_per_second", "gradient_norm")
EVERY_SECONDS = 0.2
"""Between two lines that say no more than that the run goes on."""


class Live(TrainerCallback):
    """Writes the spool. Of several processes only the first does.

    Stands before the callback that measures dev rows, so that this does not count as training time.

    Args:
        measured: What the dev rows gave at this very step; empty where they were not measured.
    """

    def __init__(self, phase: str, scratch: Path, measured: Callable[[], Mapping[str, float]]):
        self._phase, self._measured = phase, measured
        self._path = scratch / SPOOL if ranks.is_first() else None
        self._tokens = self._since = 0
        self._busy = self._mark = self._written = 0.0

    def on_step(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """The forwards of one step of this process; the others have about as many tokens."""
        tokens = sum(len(row.input_ids) for batch in batches for row in batch["rows"])
        self._tokens += tokens * ranks.count()
        self._since += tokens * ranks.count()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._mark = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._count()
        if self._mark - self._written >= EVERY_SECONDS or state.global_step == state.max_steps:
            self._write(state, {})

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" not in logs:  # the summary that Trainer logs after the last step
            return
        dev = {f"dev_{name}": value for name, value in self._measured().items()}
        if not dev:
            self._count()  # a GPU has just been waited for
        values = {mine: logs[its] for its, mine in NAMES.items() if its in logs} | dev
        if self._busy > 0:
            values["tokens_per_second"] = round(self._since / self._busy, 1)
        # JSON knows no other numbers, and MLflow neither.
        self._write(state, {key: each for key, each in values.items() if math.isfinite(each)})
        self._busy, self._since = 0.0, 0
        self._mark = time.perf_counter()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._mark = time.perf_counter()

    def say(self, text: str) -> None:
        self._append({"time": time.time(), "said": text})

    def _count(self) -> None:
        now = time.perf_counter()
        self._busy, self._mark = self._busy + now - self._mark, now

    def _write(self, state: Any, values: dict[str, float]) -> None:
        self._written = self._mark
        line = {
            "time": time.time(),
            "phase": self._phase,
            "step": state.global_step,
            "of": state.max_steps,
            "tokens": self._tokens,
        }
        self._append(line | ({"values": values} if values else {}))

    def _append(self, line: dict[str, Any]) -> None:
        if self._path is not None:
            append(self._path, line)


def append(path: Path, line: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def begin(path: Path, training: str) -> None:
    """Keep the spool of an interrupted run with the same inputs; start anew after any other."""
    lines, _ = read(path)
    if not lines or lines[0].get("training") != training:
        path.unlink(missing_ok=True)
        append(path, {"training": training, "attempt": uuid4().hex})
    elif not path.read_bytes().endswith(b"\n"):  # killed in the middle of a line
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")


def read(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The whole lines from byte ``offset`` on, and where the next one will begin.

    What a kill left of a line is passed over: its moment is measured again.
    """
    if not path.is_file():
        return [], 0
    with path.open("rb") as file:
        file.seek(offset)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    found = []
    for line in whole.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found, offset + len(whole)


def progress(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the history leaves out because it depends on the machine, as rows of PROGRESS.

    Of a step that was done twice, the second counts.
    """
    rows = {
        (line["phase"], line["step"]): {
            "phase": line["phase"],
            "step": line["step"],
            **{name: line["values"].get(name) for name in PROGRESS[2:]},
        }
        for line in lines
        if "values" in line
    }
    return list(rows.values())


def training_key(encoded: Path, settings: Train) -> str:
    """What a training is known by before it has made anything: the hash of all that goes in."""
    return sha256_json({"encoded": sha256_tree(encoded), "train": settings.model_dump(mode="json")})
