"""A plan in words, and as one JSON document."""

from __future__ import annotations

from typing import Any

from glmops.train.guards.room import gigabytes
from glmops.train.plan.advice import Change
from glmops.train.plan.whole import Phase, Plan, hours, smallest_card

_NAMES = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "AdamW's moments",
    "activations": "activations",
    "logits": "logits",
    "process": "process and libraries",
    "kernels": "kernels for each shape",
    "slack": "allocator's slack",
}


def document(plan: Plan) -> dict[str, Any]:
    """Sizes in bytes, times in seconds and hours."""
    time = hours(plan.phases)
    return {
        "recipe": plan.recipe,
        "architecture": plan.architecture.source,
        "parameters": {"total": plan.sizes.total, "trained": plan.sizes.trained},
        "device": {"kind": plan.machine.kind, "memory": plan.machine.memory},
        "memory": {
            "total": plan.memory.total,
            "parts": plan.memory.parts(),
            "when": plan.memory.when,
            "smallest_gpu": smallest_card(plan.memory) if plan.machine.kind == "cuda" else None,
        },
        "measured": None if plan.probed is None else {"total": plan.probed.peak},
        "not_measured": plan.unprobed or None,
        "fits": plan.fits,
        "phases": [_phase(phase, measured=plan.probed is not None) for phase in plan.phases],
        "hours": time,
        "disk": {"total": sum(plan.disk.values()), "parts": plan.disk},
        "changes": [
            {"what": each.what, "price": each.price, "memory": each.total, "fits": each.fits}
            for each in plan.changes
        ],
    }


def _phase(phase: Phase, *, measured: bool) -> dict[str, Any]:
    return {
        "name": phase.name,
        "rows": phase.lengths.known,
        "lengths_from": phase.lengths.source,
        "longest": [
            {"rows": each.rows, "tokens": each.tokens, "places": each.places}
            for each in phase.work.longest
        ],
        "steps": phase.work.steps,
        "seconds_per_step": phase.seconds,
        "seconds_are": "measured" if measured else "estimated",
    }


def summary(plan: Plan) -> list[str]:
    """Lines for people."""
    sizes, memory = plan.sizes, plan.memory
    share = sizes.trained / sizes.total
    lines = [
        f"model    {sizes.total:,} parameters, {sizes.trained:,} trained ({share:.2%}); "
        f"sizes from {plan.architecture.source}",
        *(f"rows     {each.name}: {each.lengths.source}" for each in plan.phases),
        f"memory   {gigabytes(memory.total)} at the peak, which is {memory.when}",
    ]
    for name, size in memory.parts().items():
        lines.append(f"         {_NAMES[name]:<22}{gigabytes(size):>10}")
    if plan.probed is not None:
        lines.append(f"tried    {gigabytes(plan.probed.peak)} measured, in a few steps of these")
    else:
        lines.append(f"tried    nothing: {plan.unprobed}")
    lines += [*_device(plan), *_time(plan)]
    parts = ", ".join(f"{name} {gigabytes(size)}" for name, size in plan.disk.items() if size)
    lines.append(f"disk     {gigabytes(sum(plan.disk.values()))}: {parts}")
    if plan.changes:
        lines.append("change   one of these, and what it would then take:")
        lines += [_change(each) for each in plan.changes]
    return lines


def _device(plan: Plan) -> list[str]:
    machine = plan.machine
    if machine.memory is None:
        card = smallest_card(plan.memory)
        size = "more than any GPU has" if card is None else f"a GPU with {gigabytes(card)}"
        return [f"device   no GPU here to compare with; it needs {size}"]
    said = "fits" if plan.fits else "does NOT fit"
    where = "free on this machine" if machine.at_hand else "of that device"
    return [f"device   it {said} into the {gigabytes(machine.memory)} {where}"]


def _time(plan: Plan) -> list[str]:
    how = "measured here"
    if plan.probed is None:
        how = "estimated, for a GPU of 50 TFLOP/s" if plan.machine.kind == "cuda" else "estimated"
    lines = []
    for phase in plan.phases:
        steps = "an unknown number of" if phase.work.steps is None else f"{phase.work.steps:,}"
        lines.append(f"time     {phase.name}: {steps} steps of {_seconds(phase.seconds)} ({how})")
    if (total := hours(plan.phases)) is not None:
        lines.append(f"         {_seconds(total * 3600)} in all, without measuring and saving")
    return lines


def _seconds(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def _change(change: Change) -> str:
    mark = "fits" if change.fits else "does not fit"
    return f"         {gigabytes(change.total):>8}  {mark:<13}{change.what} ({change.price})"
