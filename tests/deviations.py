"""How far each test was from its independent origin; the terminal summary shows the largest."""

from __future__ import annotations

from collections.abc import Iterable

# family, what was compared, distance in that quantity's own unit, the limit
Deviation = tuple[str, str, float, float]

NOTED: list[Deviation] = []


def note(family: str, what: str, value: float, limit: float) -> None:
    """Record one measured deviation and refuse it where it is over its limit (or not a number)."""
    NOTED.append((family, what, float(value), float(limit)))
    assert value <= limit, f"{family}: {what} is off by {value:.3e}, the limit is {limit:.3e}"


def taken() -> list[Deviation]:
    """What was noted since the last call."""
    noted = list(NOTED)
    NOTED.clear()
    return noted


def table(noted: Iterable[Deviation]) -> list[str]:
    """One line for each family and quantity: its largest deviation beside the limit."""
    largest: dict[tuple[str, str], Deviation] = {}
    for each in map(tuple, noted):
        family, what, value, _ = each
        key = (family, what)
        if key not in largest or value > largest[key][2]:
            largest[key] = each
    return [
        f"{family:<12} {what:<44} {value:9.2e}   limit {limit:.0e}"
        for (family, what), (_, _, value, limit) in sorted(largest.items())
    ]
