"""Seconds and bytes for people."""

from __future__ import annotations


def amount(cost: str, value: float | None) -> str:
    """A cost of the name ``seconds``, ``memory`` or ``size``."""
    return duration(value) if cost == "seconds" else size(value)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(count: float | None) -> str:
    """Of ``count`` bytes, with three digits."""
    if count is None:
        return "–"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor / 10 and (unit == "GB" or count >= factor):
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"


def short(count: int | None) -> str:
    """Of so many, with three digits."""
    if count is None:
        return "–"
    for unit, factor in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return str(count)


def number(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"
