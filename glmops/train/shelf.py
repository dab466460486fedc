"""What a phase keeps while it runs: its moments on the disk, and the best of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.recipe import Train
from glmops.train import ranks
from glmops.train.checkpoints import Say, Series
from glmops.train.keeping import best_of
from glmops.train.key import key_of
from glmops.train.moments import (
    Moment,
    num_bytes,
    put_weights,
    read_moment,
    write_moment,
    write_weights,
)
from glmops.train.points import Point

if TYPE_CHECKING:
    from glmops.train.loop import Phase


class Shelf:
    """The series of a phase. Every process calls every method; the first one writes.

    Args:
        points: The history, which grows.
    """

    def __init__(self, phase: Phase, settings: Train, points: Sequence[Point], say: Say) -> None:
        self._points, self._best, self._say, self._name = points, settings.best, say, phase.name
        key = key_of(phase, settings, ranks.count()) if ranks.is_first() else ""
        folder = phase.scratch / "checkpoints" / phase.name
        self._series = Series(folder, key, settings.checkpoints.keep)

    def newest(self) -> Moment | None:
        """Where to go on; says so in a line."""
        found = self._series.newest(self._say) if ranks.is_first() else None
        [folder, *_] = ranks.gathered(found)
        if folder is None:
            return None
        moment = read_moment(folder)
        line = f"train {self._name}: going on after step {moment.step}."
        if moment.processes != ranks.count():
            line += (
                f" It was made by {moment.processes} processes and goes on with {ranks.count()}: "
                "the rows of each step stay the same, dropout does not."
            )
        self._say(line)
        return moment

    def keep(self, trainer: Any) -> None:
        best = self._best_point()
        self._write(
            f"step-{trainer.state.global_step:08}",
            lambda folder: write_moment(trainer, self._points, folder),
            needed_bytes=num_bytes(trainer.model, optimizer=True),
            needs=[_name(best)] if best else [],
        )

    def keep_best(self, model: Any, point: Point) -> None:
        needed = num_bytes(model, optimizer=False)
        self._write(_name(point), lambda folder: write_weights(model, folder), needed_bytes=needed)

    def put_best(self, model: Any) -> None:
        """The best moment's weights into ``model``, where they are not the last ones."""
        best = self._best_point()
        if best is not None and best is not self._points[-1]:
            put_weights(model, self._series.folder / _name(best))

    def _best_point(self) -> Point | None:
        return best_of(self._points, self._best.metric) if self._best else None

    def _write(
        self,
        name: str,
        fill: Callable[[Path | None], None],
        *,
        needed_bytes: int,
        needs: Sequence[str] = (),
    ) -> None:
        if not ranks.is_first():
            fill(None)
            return
        self._series.save(name, fill, needed_bytes=needed_bytes, needs=needs)
        best = self._best_point()
        self._series.prune(also=[_name(best)] if best else [])


def _name(point: Point) -> str:
    return f"best-{point.step:08}"
