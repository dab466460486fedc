"""What to change when a run does not fit, each with its own prediction: the mildest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from glmops.recipe import Launch, Train
from glmops.train.plan.memory import Demand, Kind, predict
from glmops.train.plan.skeleton import Architecture

_PROCESSES = 4


@dataclass(frozen=True, slots=True)
class Change:
    """``what`` to write into the recipe, what it costs, and the bytes at the peak with it."""

    what: str
    price: str
    total: int
    fits: bool


Edit = Callable[[Demand], Demand]
Option = tuple[str, str, Edit]


def advice(
    architecture: Architecture,
    demands: Sequence[Demand],
    kind: Kind,
    process: int,
    limit: int,
) -> tuple[Change, ...]:
    """Each change alone; and where none is enough, all that need one device together."""

    def tried(what: str, price: str, *edits: Edit) -> Change:
        changed = list(demands)
        for edit in edits:
            changed = [edit(each) for each in changed]
        total = predict(architecture, changed, kind, process).total
        return Change(what, price, total, total <= limit)

    options = _options(demands[-1], kind)
    found = [tried(*option) for option in options]
    if not any(each.fits for each in found):
        alone = [option for option in options if "launch" not in option[0]]
        what = "; ".join(option[0] for option in alone)
        found.append(tried(what, "all of these together", *(option[2] for option in alone)))
    return tuple(found)


def _options(last: Demand, kind: Kind) -> list[Option]:
    settings, options = last.settings, list[Option]()
    schedule = settings.schedule
    if schedule.batch_size is not None and schedule.batch_size > 1:
        for size in sorted({max(1, schedule.batch_size // 4), 1}, reverse=True):
            times = -(-schedule.accumulation * schedule.batch_size // size)
            what = f"train.schedule: batch_size {size}, accumulation {times}"
            options.append((what, "the same steps, some slower", _smaller(size)))
    elif schedule.batch_tokens is not None:
        tokens = schedule.batch_tokens // 4
        what = f"train.schedule: batch_tokens {tokens}, accumulation {schedule.accumulation * 4}"
        options.append((what, "about the same steps, some slower", _fewer_tokens(tokens)))
    if not settings.gradient_checkpointing:
        edit = _setting(gradient_checkpointing=True)
        options.append(("train.gradient_checkpointing: true", "a third slower", edit))
    if settings.precision == "float32" and kind == "cuda":
        edit = _setting(precision="bfloat16")
        options.append(("train.precision: bfloat16", "rounded forward passes", edit))
    if settings.method in ("lora", "prefix") and settings.quantization == "none":
        edit = _setting(quantization="nf4")
        options.append(("train.quantization: nf4", "a frozen base in 4 bits", edit))
    if settings.method in ("full", "scratch"):
        options += _split(settings)
    shorter = "encode: half of max_prompt_tokens and max_answer_tokens"
    options.append((shorter, "longer rows are cut or left out", _shorter))
    return options


def _split(settings: Train) -> list[Option]:
    count = max(settings.launch.processes, _PROCESSES)
    found: list[Option] = []
    for zero, offload in ((2, False), (2, True), (3, True)):
        launch = Launch(
            processes=count,
            nodes=settings.launch.nodes,
            engine="deepspeed",
            zero=zero,  # type: ignore[arg-type]
            offload=offload,
        )
        if launch != settings.launch:
            tail = ", offload true" if offload else ""
            what = f"train.launch: processes {count}, engine deepspeed, zero {zero}{tail}"
            price = "as many devices" + (", and the host's memory" if offload else "")
            found.append((what, price, _setting(launch=launch)))
    return found


def _setting(**changes: Any) -> Edit:
    """Of the phases that have the setting: the base is never an adapter's."""

    def edit(demand: Demand) -> Demand:
        own = dict(changes)
        if demand.settings.method not in ("lora", "prefix"):
            own.pop("quantization", None)
        return replace(demand, settings=demand.settings.model_copy(update=own))

    return edit


def _smaller(rows: int) -> Edit:
    def edit(demand: Demand) -> Demand:
        forwards = tuple(replace(each, rows=min(each.rows, rows)) for each in demand.forwards)
        schedule = demand.settings.schedule.model_copy(
            update={"accumulation": max(2, demand.settings.schedule.accumulation)}
        )
        settings = demand.settings.model_copy(update={"schedule": schedule})
        return replace(demand, forwards=forwards, settings=settings)

    return edit


def _fewer_tokens(tokens: int) -> Edit:
    def edit(demand: Demand) -> Demand:
        forwards = tuple(
            replace(each, rows=min(each.rows, max(1, tokens // each.tokens)))
            for each in demand.forwards
        )
        return replace(demand, forwards=forwards)

    return edit


def _shorter(demand: Demand) -> Demand:
    forwards = tuple(
        replace(each, tokens=-(-each.tokens // 2), places=-(-each.places // 2))
        for each in demand.forwards
    )
    return replace(demand, forwards=forwards)
