"""A bake-off as one JSON document, and as a table on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from glmops.promote.bakeoff.choice import COSTS, frontier
from glmops.promote.bakeoff.methods import Method, Quality
from glmops.promote.bakeoff.result import Bakeoff
from glmops.promote.bakeoff.trials import Trial
from glmops.promote.bakeoff.units import duration, short, size
from glmops.promote.gate import show


def document(result: Bakeoff) -> dict[str, Any]:
    """Plain JSON values; a number that does not exist is null."""
    return {
        "recipe": result.recipe,
        "metrics": list(result.metrics),
        "cost": result.cost,
        "recommendation": asdict(result.choice),
        "notes": result.notes,
        "methods": [_method(method) for method in result.methods],
        "differences": [_plain(asdict(each)) for each in result.differences],
        "frontier": {
            metric: {cost: frontier(result.methods, metric, cost) for cost in COSTS}
            for metric in result.metrics
        },
        "runs": [_trial(trial) for method in result.methods for trial in method.trials],
    }


def table(result: Bakeoff) -> RenderableType:
    """The methods in a table, what failed, and the recommendation last."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("method\nand gate")
    for metric in result.metrics:
        shown.add_column(metric.replace("/", "/\n"), justify="right", no_wrap=True)
    for heading in ("time", "peak\nmemory", "trained", "on disk"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for method in result.methods:
        taken = method.name == result.choice.method
        name = f"[bold green]{method.name}[/bold green]" if taken else method.name
        name += f"\n{gate_cell(method)}"
        cells = [quality_cell(method.quality.get(metric)) for metric in result.metrics]
        costs = [duration(method.seconds), size(method.peak_bytes), short(method.trainable)]
        shown.add_row(name, *cells, *costs, size(method.size_bytes))
    lines = [
        f"[red]failed[/red]   {trial.method}, seed {trial.seed}: {escape(' '.join(trial.reasons))}"
        for trial in result.failed
    ]
    lines += [f"[yellow]note[/yellow]     {escape(note)}" for note in result.notes]
    return Group(shown, *lines, f"[bold]{escape(result.choice.sentence)}[/bold]")


def quality_cell(quality: Quality | None) -> str:
    if quality is None:
        return "–"
    return f"{show(quality.value)}\n{show(quality.low)}–{show(quality.high)}"


def gate_cell(method: Method) -> str:
    """`passed`, or with several seeds `2 passed, 1 refused`."""
    if len(method.trials) == 1:
        return next(iter(method.gate))
    return ", ".join(f"{count} {state}" for state, count in method.gate.items())


def _method(method: Method) -> dict[str, Any]:
    return {
        "method": method.name,
        "quality": {metric: _plain(asdict(each)) for metric, each in method.quality.items()},
        "seconds": method.seconds,
        "peak_bytes": method.peak_bytes,
        "size_bytes": method.size_bytes,
        "trainable_parameters": method.trainable,
        "parameters": method.parameters,
        "gate": dict(method.gate),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    made = trial.made
    return {
        "method": trial.method,
        "seed": trial.seed,
        "settings": list(trial.settings),
        "state": trial.state,
        "reasons": list(trial.reasons),
        "digest": trial.digest,
        "folder": trial.folder,
        "metrics": _plain({name: column.value() for name, column in made.columns.items()})
        if made
        else {},
        "seconds": made.seconds if made else None,
        "peak_bytes": made.peak_bytes if made else None,
        "size_bytes": made.size_bytes if made else None,
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _plain(value)
        if isinstance(value, Mapping)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for key, value in values.items()
    }
