"""The plan of one recipe: what it will need, whether that fits, and what to change if not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from glmops.errors import GlmopsError
from glmops.models.tokenizers import load_tokenizer
from glmops.recipe import Recipe, ScratchBase, Train
from glmops.train.guards.room import memory_free
from glmops.train.plan import cost, process
from glmops.train.plan.advice import Change, advice
from glmops.train.plan.lengths import (
    Forward,
    Lengths,
    Work,
    measured_forward,
    of_limits,
    of_prepared,
    of_rows,
    work_of,
)
from glmops.train.plan.memory import Demand, Kind, Memory, predict, sizes_of
from glmops.train.plan.probe import Probed, probe
from glmops.train.plan.process import GPU_CONTEXT
from glmops.train.plan.skeleton import Architecture, architecture_of
from glmops.train.rows import read_rows

CARDS = tuple(size * 2**30 for size in (8, 12, 16, 24, 32, 40, 48, 80, 141))
"""GPU memories that are sold."""


@dataclass(frozen=True, slots=True)
class Data:
    """What is known of the rows: folders of the stages, where they have run."""

    encoded: Path | None
    prepared: Path | None


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it will run. ``memory``: bytes of one device; None: no such device is at hand."""

    kind: Kind
    memory: int | None
    at_hand: bool


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps and times of one phase; ``settings`` has its own schedule."""

    name: str
    settings: Train
    lengths: Lengths
    work: Work
    seconds: float
    """Of a mean step."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything there is to say. ``probed`` is None where nothing was run, and ``unprobed`` says
    why; ``fits`` is None where no device is known."""

    recipe: str
    architecture: Architecture
    machine: Machine
    sizes: cost.Sizes
    memory: Memory
    phases: tuple[Phase, ...]
    disk: dict[str, int]
    probed: Probed | None
    unprobed: str
    fits: bool | None
    changes: tuple[Change, ...]


def machine_for(settings: Train, kind: Kind | None, memory: int | None) -> Machine:
    """The machine at hand, or a GPU where the recipe needs one and there is none.

    Args:
        memory: Bytes of a device that need not be here; None: that of this machine.
    """
    gpu = torch.cuda.is_available()
    if kind is None:
        kind = "cuda" if gpu or settings.precision == "float16" else "cpu"
    here = memory is None and (gpu or kind == "cpu")
    if here:
        memory = memory_free(torch.device(kind))
    return Machine(kind, memory, here)


def make_plan(
    root: Path, name: str, recipe: Recipe, data: Data, machine: Machine, *, try_it: bool = True
) -> Plan:
    """Predict, then try the longest forward for a few steps where that is possible.

    Raises:
        GlmopsError: The base, the encoded rows or the recipe's settings cannot be used.
    """
    running = process.start(recipe.train, root) if machine.kind == "cpu" else None
    tokenizer = None if data.encoded is None else load_tokenizer(data.encoded / "tokenizer")
    architecture = architecture_of(recipe, root, tokenizer)
    works = _works(recipe, data, int(architecture.config.vocab_size))
    demands = [
        Demand(phase, told.settings, told.work.longest, told.measured, told.work.shapes)
        for phase, told in works.items()
    ]
    bare = predict(architecture, demands, machine.kind, 0)
    around = GPU_CONTEXT if running is None else process.finish(running)
    memory = replace(bare, process=around)
    fits = None if machine.memory is None else memory.total <= machine.memory
    probed, unprobed = None, _unprobed(recipe, root, data, machine, fits, try_it)
    if not unprobed and data.encoded is not None:
        try:
            tried = {phase: told.work for phase, told in works.items()}
            probed = probe(data.encoded, root, recipe.train, tried)
            fits = machine.memory is not None and probed.peak <= machine.memory
        except GlmopsError as error:
            unprobed, fits = f"the probe failed: {error}", False
    changes: tuple[Change, ...] = ()
    if fits is False and machine.memory is not None:
        changes = advice(architecture, demands, machine.kind, around, machine.memory)
    sizes = sizes_of(architecture, recipe.train, machine.kind)
    phases = tuple(
        _phase(phase, told, probed, architecture, machine) for phase, told in works.items()
    )
    stored = 4 if isinstance(recipe.train.base, ScratchBase) else 2
    disk = cost.disk_bytes(sizes, recipe.train, stored)
    return Plan(
        recipe=name,
        architecture=architecture,
        machine=machine,
        sizes=sizes,
        memory=memory,
        phases=phases,
        disk=disk,
        probed=probed,
        unprobed=unprobed,
        fits=fits,
        changes=changes,
    )


@dataclass(frozen=True, slots=True)
class Told:
    """Of a phase: its settings, its rows, its forwards, and the forward over dev rows."""

    settings: Train
    lengths: Lengths
    work: Work
    measured: Forward


def _works(recipe: Recipe, data: Data, vocabulary: int) -> dict[str, Told]:
    settings = recipe.train
    measured = measured_forward(_lengths(recipe, data, "dev"), vocabulary)
    processes = settings.launch.processes * settings.launch.nodes
    splits: list[tuple[str, str, Train]] = [(settings.method, "train", settings)]
    if isinstance(settings.base, ScratchBase) and settings.base.schedule is not None:
        splits.insert(0, ("base", "base", _base_settings(settings)))
    found = {}
    for name, split, own in splits:
        lengths = _lengths(recipe, data, split)
        work = work_of(lengths, own.schedule, own.seed, processes)
        found[name] = Told(own, lengths, work, measured)
    return found


def _base_settings(settings: Train) -> Train:
    return settings.model_copy(
        update={
            "method": "scratch",
            "lora": None,
            "prefix": None,
            "quantization": "none",
            "export": "merged",
            "schedule": settings.base.schedule,  # type: ignore[union-attr]
        }
    )


def _lengths(recipe: Recipe, data: Data, split: str) -> Lengths:
    prompts = split == "base" or (split == "train" and recipe.train.prompt_loss > 0)
    if data.encoded is not None:
        # Ids were made by the tokenizer beside them; the train stage compares them anyway.
        rows = read_rows(data.encoded / f"{split}.arrow", 1 << 31)
        return of_rows(rows, prompts=prompts)
    if data.prepared is not None:
        file = data.prepared / ("dev.parquet" if split == "dev" else "train.parquet")
        lengths = of_prepared(file, recipe.encode, prompts=prompts)
    else:
        lengths = of_limits(recipe.encode, prompts=prompts)
    return replace(lengths, packed=False) if split == "dev" else lengths


def _unprobed(
    recipe: Recipe, root: Path, data: Data, machine: Machine, fits: bool | None, try_it: bool
) -> str:
    """Why nothing is run; empty where nothing speaks against it."""
    if not try_it:
        return "not asked for"
    if not machine.at_hand:
        return "it is planned for a device that is not here"
    base = recipe.train.base
    if not isinstance(base, ScratchBase) and not (root / base.path).is_dir():
        return f"the base is absent: {base.path}"
    if data.encoded is None:
        return "there are no encoded rows yet"
    return "" if fits else "it would not fit"


def _phase(
    name: str, told: Told, probed: Probed | None, architecture: Architecture, machine: Machine
) -> Phase:
    settings, work = told.settings, told.work
    if probed is not None:
        seconds = cost.seconds_of_step(work, settings, probed.seconds[name])
    else:
        sizes = sizes_of(architecture, settings, machine.kind)
        rate = cost.GPU_RATE if machine.kind == "cuda" else cost.cpu_rate(settings.threads)
        seconds = cost.estimated_seconds(work, settings, sizes, rate)
    return Phase(name, settings, told.lengths, work, seconds)


def smallest_card(memory: Memory) -> int | None:
    return next((size for size in CARDS if size * 0.97 >= memory.total), None)


def hours(phases: Sequence[Phase]) -> float | None:
    """None where the number of steps is not known."""
    total = 0.0
    for phase in phases:
        if phase.work.steps is None:
            return None
        total += phase.work.steps * phase.seconds
    return total / 3600
