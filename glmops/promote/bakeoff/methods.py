"""The runs of one method taken together, and how far two methods are apart.

A metric of a method is that of all its seeds' answers together. Its interval has two parts, put
together as independent errors are:

- across rows: bootstrap over the test rows, the same draws for every seed and method;
- across seeds: Student's t on the seeds' own values. With one seed nothing is known of it, and the
  interval is across rows alone.

A difference is paired in both: the same rows, and seed by seed, since a seed stands for the same
base, order of rows and dropout in every method.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glmops.promote.bakeoff.trials import FAILED, Made, Trial
from glmops.promote.bootstrap import Column, difference_interval, value_interval

T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t at 97.5 %, by degrees of freedom from 1; the last serves for all beyond it, too."""

_HAIR = 1e-9
"""0.9 − 0.8 − 0.1 is no 0 in binary, and no difference."""


@dataclass(frozen=True, slots=True)
class Quality:
    """One metric of one method, with its 95 % interval across rows and seeds."""

    value: float
    low: float
    high: float
    rows: int
    by_seed: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Difference:
    """``mine − theirs`` in one metric, on the rows and seeds that both have."""

    metric: str
    mine: str
    theirs: str
    value: float
    low: float
    high: float
    seeds: int

    @property
    def is_better(self) -> bool:
        """Whether ``mine`` is: the whole interval lies above 0."""
        return self.low > _HAIR

    def __neg__(self) -> Difference:
        return Difference(
            self.metric, self.theirs, self.mine, -self.value, -self.high, -self.low, self.seeds
        )


@dataclass(frozen=True, slots=True)
class Method:
    """What a method came to. Costs are None where no run that ended tells.

    Attributes:
        seconds: Mean over the seeds.
        peak_bytes, size_bytes: Of the seed that needed most.
        gate: Outcome → how many of its runs, failed ones among them.
    """

    name: str
    trials: tuple[Trial, ...]
    quality: Mapping[str, Quality]
    seconds: float | None
    peak_bytes: int | None
    size_bytes: int | None
    trainable: int | None
    parameters: int | None
    gate: Mapping[str, int]

    @property
    def passed(self) -> bool:
        return self.gate.get("passed", 0) > 0

    def has(self, metric: str) -> bool:
        """Whether the metric has a value."""
        return metric in self.quality and math.isfinite(self.quality[metric].value)

    @property
    def ended(self) -> bool:
        return any(trial.state != FAILED for trial in self.trials)


def method_of(name: str, trials: Sequence[Trial]) -> Method:
    """The trials of one method, each with another seed."""
    made = _by_seed(trials)
    metrics = dict.fromkeys(metric for each in made.values() for metric in each.columns)
    states = [trial.state for trial in trials]
    seconds = [each.seconds for each in made.values() if each.seconds is not None]
    return Method(
        name,
        tuple(trials),
        {metric: _quality(metric, made) for metric in metrics},
        statistics.fmean(seconds) if seconds else None,
        max((m.peak_bytes for m in made.values() if m.peak_bytes is not None), default=None),
        max((each.size_bytes for each in made.values()), default=None),
        max((each.trainable for each in made.values()), default=None),
        max((each.parameters for each in made.values()), default=None),
        {state: states.count(state) for state in dict.fromkeys(states)},
    )


def difference(mine: Method, theirs: Method, metric: str) -> Difference | None:
    """None where no seed has the metric in both."""
    a, b = _by_seed(mine.trials), _by_seed(theirs.trials)
    seeds = [
        seed for seed in a if seed in b and metric in a[seed].columns and metric in b[seed].columns
    ]
    pairs = [(a[seed].columns[metric], b[seed].columns[metric]) for seed in seeds]
    both = _on_common_rows([column for pair in pairs for column in pair])
    if not both:
        return None
    ours, others = both[0::2], both[1::2]
    one, other = _together(ours), _together(others)
    value = one.value() - other.value()
    apart = [x.value() - y.value() for x, y in zip(ours, others, strict=True)]
    low, high = _widened(value, difference_interval(one, other), apart)
    return Difference(metric, mine.name, theirs.name, value, low, high, len(seeds))


def _by_seed(trials: Sequence[Trial]) -> dict[int, Made]:
    return {trial.seed: trial.made for trial in trials if trial.made}


def _quality(metric: str, made: Mapping[int, Made]) -> Quality:
    found = {seed: each.columns[metric] for seed, each in made.items() if metric in each.columns}
    by_seed = {seed: column.value() for seed, column in found.items()}
    same_rows = _on_common_rows(list(found.values()))
    together = _together(same_rows)
    value = together.value()
    own = [column.value() for column in same_rows]
    low, high = _widened(value, value_interval(together), own)
    best = _best(together)
    return Quality(value, max(low, 0.0), min(high, best), len(together.ids), by_seed)


def _together(same_rows: Sequence[Column]) -> Column:
    """One column of what several answered to the same rows."""
    return Column(
        same_rows[0].ids,
        sum((column.numerator_N for column in same_rows[1:]), same_rows[0].numerator_N),
        sum((column.denominator_N for column in same_rows[1:]), same_rows[0].denominator_N),
    )


def _on_common_rows(found: Sequence[Column]) -> list[Column]:
    """Empty where no row is in all of them."""
    common = set.intersection(*(set(column.ids) for column in found)) if found else set()
    return [column.only(common) for column in found] if common else []


def _widened(
    value: float, across_rows: tuple[float, float], by_seed: Sequence[float]
) -> tuple[float, float]:
    """The interval with what the seeds add; NaN where a seed has no value."""
    if not all(math.isfinite(each) for each in by_seed):
        return math.nan, math.nan
    if len(by_seed) < 2:
        return across_rows
    t = T[min(len(by_seed) - 1, len(T)) - 1]
    half = t * statistics.stdev(by_seed) / math.sqrt(len(by_seed))
    low, high = across_rows
    return value - math.hypot(value - low, half), value + math.hypot(high - value, half)


def _best(column: Column) -> float:
    """What the metric cannot exceed: accuracy and F1 end at 1, ROUGE and BLEU at 100."""
    return 100.0 if (column.numerator_N > column.denominator_N).any() else 1.0
