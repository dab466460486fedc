"""Which rows share a batch, and in which order: a function of seed and epoch, whatever the machine.

A step is the same set of rows on one process or eight, so that runs can be compared, and go on, on
another number of them. Every row is in an epoch once, and every epoch has as many forwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from glmops.recipe import Schedule

_GRADES = 16
"""Grades of length between one power of two and the next: a row is padded by a 16th at most to
reach its grade."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How rows become steps.

    Attributes:
        batch_size: Rows of one process's forward, or None where ``batch_tokens`` bounds them.
        batch_tokens: Padded tokens of one process's forward; a row that is longer has its own.
        accumulation: Forwards of one process before the weights move.
    """

    lengths: NDArray[np.int32]
    seed: int
    batch_size: int | None
    batch_tokens: int | None
    accumulation: int = 1
    processes: int = 1
    _grades: NDArray[np.int32] = field(init=False, repr=False)
    _bounds: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Which rows share a batch changes from epoch to epoch, but how many rows of which grade
        # does not: so neither do the numbers of batches and of steps.
        grades, bounds = np.zeros(0, np.int32), np.zeros(0, np.int64)
        if self.batch_tokens is not None:
            grades = _grades(self.lengths)
            bounds = _bounds(grades, self.batch_tokens)
        object.__setattr__(self, "_grades", grades)
        object.__setattr__(self, "_bounds", bounds)

    def forwards(self) -> int:
        """Forwards of one process in an epoch."""
        if self.batch_tokens is not None:
            return math.ceil((len(self._bounds) - 1) / self.processes)
        return math.ceil(len(self.lengths) / ((self.batch_size or 1) * self.processes))

    def steps(self) -> int:
        """Moves of the weights in an epoch; the last may see fewer rows."""
        return math.ceil(self.forwards() / self.accumulation)

    def epoch(self, number: int) -> Iterator[list[NDArray[np.int64]]]:
        """The forwards of an epoch, made as they are asked for: for each, the row numbers of each
        process. Only in the last one may a process have none."""
        order = np.random.default_rng([self.seed, number]).permutation(len(self.lengths))
        if self.batch_tokens is not None:
            return self._by_tokens(order, number)
        return self._by_rows(order)

    def _by_rows(self, order: NDArray[np.int64]) -> Iterator[list[NDArray[np.int64]]]:
        count = (self.batch_size or 1) * self.processes
        for start in range(0, len(order), count):
            rows = order[start : start + count]
            # The last rows are dealt evenly, so that no process waits for another.
            each, more = divmod(len(rows), self.processes)
            ends = [each * (p + 1) + min(p + 1, more) for p in range(self.processes)]
            yield [rows[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def _by_tokens(
        self, order: NDArray[np.int64], number: int
    ) -> Iterator[list[NDArray[np.int64]]]:
        """Rows of like length together, up to ``batch_tokens`` with padding; batches shuffled."""
        order = order[np.argsort(self._grades[order], kind="stable")]
        count = len(self._bounds) - 1
        shuffled = np.random.default_rng([self.seed, number, 1]).permutation(count)
        bounds, nothing = self._bounds, order[:0]
        for start in range(0, count, self.processes):
            dealt = shuffled[start : start + self.processes]
            batches = [order[bounds[each] : bounds[each + 1]] for each in dealt]
            yield batches + [nothing] * (self.processes - len(batches))


def plan_of(lengths: NDArray[np.int32], schedule: Schedule, seed: int, processes: int = 1) -> Plan:
    return Plan(
        lengths,
        seed,
        schedule.batch_size,
        schedule.batch_tokens,
        schedule.accumulation,
        processes,
    )


def num_steps(plan: Plan, schedule: Schedule) -> int:
    """Moves of the weights in the whole run."""
    if schedule.max_steps is not None:
        return schedule.max_steps
    assert schedule.epochs is not None
    return math.ceil(schedule.epochs * plan.steps())


class Sampler:
    """One process's share of a plan, as torch's DataLoader takes batches: lists of row numbers."""

    def __init__(self, plan: Plan, process: int) -> None:
        self._plan, self._process, self._epoch = plan, process, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return self._plan.forwards()

    def __iter__(self) -> Iterator[list[int]]:
        for forward in self._plan.epoch(self._epoch):
            yield forward[self._process].tolist()


def _grades(lengths: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each length rounded up to one of 16 grades for every power of two."""
    powers = np.frexp(np.maximum(lengths, 1))[1] - 1
    widths = np.maximum(2**powers // _GRADES, 1)
    return (-(-lengths // widths) * widths).astype(np.int32)


def _bounds(grades: NDArray[np.int32], limit: int) -> NDArray[np.int64]:
    """Where batches begin in rows sorted by grade, and the last one ends.

    A batch is as many rows as fit into ``limit`` tokens, each taken for as long as the last one's
    grade, and at least one.
    """
    values, counts = np.unique(grades, return_counts=True)
    bounds: list[NDArray[np.int64]] = []
    start = seen = 0  # the open batch begins at start; rows up to seen are in it or before it
    for grade, count in zip(values.tolist(), counts.tolist(), strict=True):
        most = max(1, limit // grade)
        if seen - start >= most:  # a row of this grade would no longer fit beside them
            bounds.append(np.array([start]))
            start = seen
        seen += count
        full = np.arange(start, max(start, seen - most), most)
        bounds.append(full)
        start += most * len(full)
    return np.concatenate([*bounds, [start, seen]]).astype(np.int64)
