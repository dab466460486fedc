"""A whole bake-off: its methods, how they differ, and what follows from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glmops.promote.bakeoff.choice import COSTS, Choice, choose, differences
from glmops.promote.bakeoff.methods import Difference, Method, method_of
from glmops.promote.bakeoff.trials import FAILED, Trial, require_one_test


@dataclass(frozen=True, slots=True)
class Bakeoff:
    """``metrics`` decide, in their order; ``cost`` is what decides between methods that tie.
    ``smoke``: of smoke runs, which have learnt nothing."""

    recipe: str
    metrics: tuple[str, ...]
    cost: str
    methods: tuple[Method, ...]
    differences: tuple[Difference, ...]
    choice: Choice
    smoke: bool = False

    @property
    def failed(self) -> list[Trial]:
        return [t for method in self.methods for t in method.trials if t.state == FAILED]

    @property
    def notes(self) -> list[str]:
        """What a reader of the intervals must know."""
        seeds = {each.seeds for each in self.differences}
        found = []
        if self.smoke:
            found.append(
                "Smoke runs: they show that the methods run. Scores, time and memory say nothing "
                "about the recipe's own model."
            )
        if seeds and min(seeds) == 1:
            found.append(
                "One seed: the intervals are across test rows alone, and another seed may move a "
                "method further than they say. `--seeds 1,2,3` tells."
            )
        elif seeds and min(seeds) == 2:
            found.append("Two seeds say little of a third: the intervals are wide. Use three.")
        if any(method.peak_bytes is None for method in self.methods if method.ended):
            found.append("This machine does not say how much memory a process held.")
        return found


def result_of(
    recipe: str, trials: Sequence[Trial], metrics: Sequence[str], cost: str, *, smoke: bool = False
) -> Bakeoff:
    """Put trials together, the methods in the order of their first trial.

    Raises:
        InputError: Two runs were scored on other rows, or by other metrics.
    """
    require_one_test(trials)
    assert cost in COSTS
    methods = [
        method_of(name, [trial for trial in trials if trial.method == name])
        for name in dict.fromkeys(trial.method for trial in trials)
    ]
    found = differences(methods, metrics)
    choice = choose(methods, found, metrics, cost)
    return Bakeoff(recipe, tuple(metrics), cost, tuple(methods), tuple(found), choice, smoke)
