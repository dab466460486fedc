"""Which methods are worth their cost, and which one to take. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from glmops.promote.bakeoff.methods import Difference, Method, difference
from glmops.promote.bakeoff.units import amount
from glmops.promote.gate import show

COSTS: dict[str, Callable[[Method], float | None]] = {
    "seconds": lambda method: method.seconds,
    "memory": lambda method: method.peak_bytes,
    "size": lambda method: method.size_bytes,
}
WORDS = {
    "seconds": "trains in the least time",
    "memory": "trains in the least memory",
    "size": "takes the least disk",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """``method`` is None where there is nothing to take; ``sentence`` says why, or why this one."""

    method: str | None
    sentence: str


def differences(methods: Sequence[Method], metrics: Sequence[str]) -> list[Difference]:
    """Every pair of methods in every metric, as far as they can be compared."""
    pairs = [(a, b) for a, b in combinations(methods, 2) if a.ended and b.ended]
    found = [difference(a, b, metric) for metric in metrics for a, b in pairs]
    return [each for each in found if each is not None]


def frontier(methods: Sequence[Method], metric: str, cost: str) -> list[str]:
    """The methods than which none is both as good and as cheap, and better in one of the two.

    Of the values as measured: the intervals say how sure that is.
    """
    points = {
        method.name: (price, method.quality[metric].value)
        for method in methods
        if method.has(metric) and (price := COSTS[cost](method)) is not None
    }
    return [
        name
        for name, (price, value) in points.items()
        if not any(
            other_price <= price
            and other_value >= value
            and (other_price < price or other_value > value)
            for other_price, other_value in points.values()
        )
    ]


def choose(
    methods: Sequence[Method], found: Sequence[Difference], metrics: Sequence[str], cost: str
) -> Choice:
    """The best by the metrics, in their order; of those that tie in all of them, the cheapest.

    Two methods tie in a metric when the 95 % interval of their difference holds 0. Methods that
    the gate lets pass go before those that it refuses.
    """
    ended = [method for method in methods if method.ended]
    if not ended:
        return Choice(None, "No method to recommend: every run failed.")
    whole = [method for method in ended if all(method.has(metric) for metric in metrics)]
    if not whole:
        return Choice(None, f"No method to recommend: none has a value of {_listed(metrics)}.")
    pool = [method for method in whole if method.passed] or whole
    better = _better(found)
    left = pool
    for metric in metrics:
        unbeaten = [
            mine for mine in left
            if not any((metric, other.name, mine.name) in better for other in left)
        ]  # fmt: skip
        left = unbeaten or left
    pick = min(left, key=lambda method: _price(method, cost))
    rest = [method for method in left if method is not pick]
    parts = [_reason(pick, rest, pool, better, metrics, cost)]
    parts += _trade_offs(pick, pool, better, metrics)
    parts += _gate(pool, whole)
    if lacking := [method.name for method in ended if method not in whole]:
        parts.append(f"not every metric that decides has a value with {_listed(lacking)}")
    return Choice(pick.name, f"Take {pick.name}: {'; '.join(parts)}.")


def _better(found: Sequence[Difference]) -> dict[tuple[str, str, str], Difference]:
    """(metric, better, worse) → the difference, where its interval lies above 0."""
    both = [*found, *(-each for each in found)]
    return {(each.metric, each.mine, each.theirs): each for each in both if each.is_better}


def _price(method: Method, cost: str) -> float:
    price = COSTS[cost](method)
    return float("inf") if price is None else price


def _reason(
    pick: Method,
    rest: Sequence[Method],
    pool: Sequence[Method],
    better: Mapping[tuple[str, str, str], Difference],
    metrics: Sequence[str],
    cost: str,
) -> str:
    if len(pool) == 1:
        return "it is the only method that came through"
    beaten = [method.name for method in pool if method is not pick and method not in rest]
    said = []
    for name in beaten:
        where = next((m for m in metrics if (m, pick.name, name) in better), None)
        if where is None:  # beaten by a method that was itself beaten in another metric
            continue
        gap = better[where, pick.name, name]
        said.append(
            f"it is better than {name} in {where} by {show(gap.value)} "
            f"(95 % interval {show(gap.low)} to {show(gap.high)})"
        )
    if rest:
        prices = ", ".join(f"{m.name} {amount(cost, COSTS[cost](m))}" for m in rest)
        names = _listed([method.name for method in rest])
        said.append(
            f"{names} cannot be told from it in {_listed(metrics)}, and {pick.name} {WORDS[cost]} "
            f"({amount(cost, COSTS[cost](pick))}; {prices})"
        )
    return "; ".join(said) or "the metrics, in their order, leave it alone in front"


def _trade_offs(
    pick: Method,
    pool: Sequence[Method],
    better: Mapping[tuple[str, str, str], Difference],
    metrics: Sequence[str],
) -> list[str]:
    """Where another method is better all the same: the person who decides must know."""
    return [
        f"{other.name} is better in {metric} by {show(better[metric, other.name, pick.name].value)}"
        f", which counts after {metrics[place - 1]}"
        for other in pool
        for place, metric in enumerate(metrics)
        if place and (metric, other.name, pick.name) in better
    ]


def _gate(pool: Sequence[Method], whole: Sequence[Method]) -> list[str]:
    if not any(method.passed for method in whole):
        return ["but the gate lets none of the methods pass"]
    out = [method.name for method in whole if method not in pool]
    return [f"the gate does not let {_listed(out)} pass"] if out else []


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
