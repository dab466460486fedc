"""What ``glmops status`` prints for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from glmops.promote.gate import show

SHOWN = 20
COLOURS = {
    "champion": "bold green",
    "approved": "green",
    "waiting for review": "yellow",
    "rejected": "red",
    "refused": "red",
    "too few rows": "red",
}


def status_table(entry: Mapping[str, Any]) -> RenderableType:
    """One entry of ``promotion.status`` as a table, with its warnings below."""
    title = f"{entry['recipe']}: {_champion(entry)}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("digest", "state and decisions", "metrics", "made"):
        table.add_column(heading, no_wrap=heading in ("digest", "metrics"))
    for candidate in entry["candidates"][:SHOWN]:
        colour = COLOURS.get(candidate["state"], "default")
        table.add_row(
            candidate["digest"][:12],
            "\n".join(
                [
                    f"[{colour}]{candidate['state']}[/{colour}]",
                    *(_decision(one) for one in candidate["approvals"]),
                ]
            ),
            "\n".join(f"{m} {show(v)}" for m, v in candidate["metrics"].items()),
            f"{_age(candidate['age_seconds'])} ago by {escape(candidate['actor'])}",
        )
    notes = [f"[yellow]warning[/yellow]  {escape(warning)}" for warning in entry["warnings"]]
    if (more := len(entry["candidates"]) - SHOWN) > 0:
        notes.append(f"{more} older candidates are not shown; `--json` has them.")
    return Group(table, *notes)


def _champion(entry: Mapping[str, Any]) -> str:
    if not entry["champion"]:
        return "no champion yet"
    before = f", previous {entry['previous'][:12]}" if entry["previous"] else ""
    return f"champion {entry['champion'][:12]}{before}"


def _decision(one: Mapping[str, Any]) -> str:
    verb = "approved" if one["decision"] == "approve" else "rejected"
    void = f", void: {one['void']}" if one["void"] else ""
    return f"{escape(one['actor'])} {verb} ({one['kind']}{void})"


def _age(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
