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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from glmops.storage import sha256_json, sha256_tree

if TYPE_CHECKING:
    from glmops.recipe import Train

SPOOL = "live.jsonl"
OFFENDING = "offending.jsonl"
"""Beside it: the rows of a step that went wrong, as guards/offending.py writes them."""
PROGRESS = ("phase", "step", "tokens_per_second", "gradient_norm")


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
