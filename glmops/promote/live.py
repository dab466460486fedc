"""A training shown in MLflow while it runs, by a process of its own, and adopted when registered.

    python -m glmops.promote.live PROJECT RECIPE SPOOL

It reads what the train stage appends to SPOOL (glmops/train/spool.py) and sends it on in batches. A
server that is slow or down costs the training nothing: the lines wait in the file. The stage holds
its standard input: a last word there says how the training ended, and no word that it was killed.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from glmops.errors import MachineError
from glmops.promote.adoption import ATTEMPT, TRAINING, Point, known_points, runs_with
from glmops.promote.connection import chunks, connected, experiment_id, writing
from glmops.promote.standing import present_actor
from glmops.promote.tracking import DIGEST

STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
EVERY_SECONDS, LONGEST_SECONDS = 2.0, 60.0
"""Between two batches; after a failure twice as long each time, up to the second number."""


def follow(
    root: Path, recipe: str, spool: Path, ended: Callable[[], str | None], *, every: float
) -> bool:
    """Send what is in ``spool`` until ``ended`` gives the last word; whether all of it was sent.

    Nothing is sent when the same inputs were trained and registered before: they are one run.
    """
    offset, wait = 0, every
    waiting: list[dict[str, Any]] = []
    run: _Run | None = None
    while True:
        word = ended()
        lines, offset = _read(spool, offset)
        waiting += lines
        head = waiting[0] if run is None and waiting else None
        try:
            if head is not None:
                run = _open(root, recipe, head)
                if run is None:
                    return True
            if run is not None and (waiting or word):
                run.send(root, waiting, word)
                waiting, wait = [], every
        except MachineError:
            # Kept, and tried again: here and, with the candidate's other numbers, when it is
            # registered. Training is not told.
            wait = min(2 * wait, LONGEST_SECONDS)
            if word:
                return False
        if word:
            return True
        _sleep(wait, ended)


class _Run:
    """An MLflow run and the points that it has."""

    def __init__(self, run_id: str, known: set[Point]) -> None:
        self._id, self._known = run_id, known

    def send(self, root: Path, lines: Sequence[Mapping[str, Any]], word: str | None) -> None:
        from mlflow.entities import Metric

        with writing(root), connected(root) as client:
            new = [
                Metric(name, value, int(line["time"] * 1000), step)
                for line in lines
                for name, value, step in points_of(line)
                if (name, step) not in self._known
            ]
            # Of a step that was done twice the first value stays: resumed, it is the same.
            new = list({(each.key, each.step): each for each in reversed(new)}.values())[::-1]
            for batch in chunks(new, 1000):
                client.log_batch(self._id, metrics=batch)
                self._known |= {(each.key, each.step) for each in batch}
            if word:
                client.set_terminated(self._id, STATUS.get(word, "KILLED"))


def points_of(line: Mapping[str, Any]) -> Iterator[tuple[str, float, int]]:
    """(phase/name, value, step) of a line of the spool."""
    for name, value in line.get("values", {}).items():
        yield f"{line['phase']}/{name}", float(value), int(line["step"])


def _open(root: Path, recipe: str, head: Mapping[str, Any]) -> _Run | None:
    """The run of this attempt: the one that a kill left, or a new one."""
    training, attempt = head["training"], head["attempt"]
    with writing(root), connected(root) as client:
        experiment = experiment_id(client, root, recipe)
        runs = runs_with(client, experiment, TRAINING, training)
        if any(DIGEST in run.data.tags for run in runs):
            return None
        mine = [run for run in runs if run.data.tags.get(ATTEMPT) == attempt]
        if mine:
            run = mine[0]
            client.update_run(run.info.run_id, status="RUNNING")
        else:
            tags = {TRAINING: training, ATTEMPT: attempt, "mlflow.user": present_actor()}
            name = f"training {training[:8]}"
            run = client.create_run(experiment, tags=tags, run_name=name)
        return _Run(run.info.run_id, known_points(client, run))


def _read(spool: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Whole lines from ``offset`` on; what a kill left of one is measured again."""
    if not spool.is_file():
        return [], offset
    with spool.open("rb") as file:
        file.seek(offset)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    lines = []
    for line in whole.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines, offset + len(whole)


def _sleep(seconds: float, ended: Callable[[], str | None]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and ended() is None:
        time.sleep(min(0.1, seconds))


def main() -> None:
    # A stop reaches this process too; it ends when the stage has, whose last lines it sends.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    words: list[str] = []
    listening = threading.Thread(
        target=lambda: words.append(sys.stdin.read().strip() or "killed"), daemon=True
    )
    listening.start()
    root, recipe, spool = sys.argv[1:]
    follow(
        Path(root), recipe, Path(spool), lambda: words[0] if words else None, every=EVERY_SECONDS
    )


if __name__ == "__main__":
    main()
