"""The peak memory of a run, by part, from a skeleton of its model and the lengths of its rows.

weights      as they are held: float32 where they are trained, the recipe's precision or 8 or 4 bits
             where they are frozen
gradients    float32, of trained weights; once more where several processes exchange them
optimizer    AdamW's two moments, float32
activations  what autograd keeps for backward, and what comes and goes meanwhile
logits       places x vocabulary: as the model makes them, in float32, their softmax and gradient
process      Python and libraries; of a GPU, its driver's context
kernels      of bfloat16 on a CPU, which oneDNN makes for every shape of a forward and keeps
slack        freed memory that the allocator has not given back

Weights, gradients and moments are counted, activations and logits traced through the model's own
code (trace.py). Slack, kernels and a GPU's context are experience: see docs/log.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from glmops.recipe import Train
from glmops.train.plan.cost import Sizes
from glmops.train.plan.lengths import Forward
from glmops.train.plan.live import ACTIVATIONS, GRADIENTS, LOGITS, Parts
from glmops.train.plan.skeleton import Architecture, num_parameters, skeleton
from glmops.train.plan.trace import measurement, step

Kind = Literal["cpu", "cuda"]

MOMENT_BYTES, MASTER_BYTES, GRADIENT_BYTES = 8, 4, 4
SLACK = {"cpu": 0.20, "cuda": 0.06}
"""Of gradients, activations and logits: what comes and goes."""
KERNEL_BYTES = 9_000_000
"""Of one shape: some 14 products of matrices, forward and backward; layers share them."""
_MOST_SHAPES = 1024 // 14
"""oneDNN keeps 1,024 of these products."""
_DEEP = (4, 6)
"""Layers that are traced; what a further one adds is what the last two added."""


@dataclass(frozen=True, slots=True)
class Demand:
    """One phase: its settings, the forwards to look at, and the one over dev rows."""

    name: str
    settings: Train
    forwards: tuple[Forward, ...]
    measured: Forward
    shapes: int = 1
    """Of the forwards of the whole phase."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the peak, and when that is."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    process: int
    kernels: int
    slack: int
    when: str

    @property
    def total(self) -> int:
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        return {name: value for name, value in asdict(self).items() if name != "when"}


def predict(
    architecture: Architecture, demands: Sequence[Demand], kind: Kind, process: int
) -> Memory:
    """The largest moment of all phases.

    Args:
        process: Bytes that a process holds before it has a model; see process.py.
    """
    moments = [
        moment for demand in demands for moment in _moments(architecture, demand, kind, process)
    ]
    return max(moments, key=lambda each: each.total)


def _moments(architecture: Architecture, demand: Demand, kind: Kind, process: int) -> list[Memory]:
    """A step of each forward, a measurement, and where quantised weights are merged, the end."""
    settings = demand.settings
    weights, trained = _held(architecture, settings, kind)
    state = _state(weights, trained, settings)
    state |= {"kernels": _kernels(demand, kind), "process": process}
    found = []
    for forward in demand.forwards:
        for parts in _deepened(architecture, settings, forward, kind, train=True):
            when = f"{demand.name}: a step of {_described(forward)}"
            # ZeRO holds gradients its own way: what it holds counts, not what was traced.
            traced = 0 if settings.launch.zero else parts[GRADIENTS]
            held = state["gradients"] + traced
            if settings.launch.zero is None and settings.schedule.accumulation > 1:
                held = max(held, trained * GRADIENT_BYTES)
            found.append(_moment(state | {"gradients": held}, parts, kind, when))
    for parts in _deepened(architecture, settings, demand.measured, kind, train=False):
        when = f"{demand.name}: measuring {_described(demand.measured)} of dev"
        found.append(_moment(state, parts, kind, when))
    if settings.export == "merged" and settings.quantization != "none":
        whole = num_parameters(architecture) * 2
        nothing = {GRADIENTS: 0, LOGITS: 0, ACTIVATIONS: 0}
        merging = state | {"weights": state["weights"] + whole}
        found.append(_moment(merging, nothing, kind, f"{demand.name}: merging"))
    return found


def _kernels(demand: Demand, kind: Kind) -> int:
    if kind != "cpu" or demand.settings.precision != "bfloat16":
        return 0
    return min(demand.shapes, _MOST_SHAPES) * KERNEL_BYTES


def _moment(state: dict[str, int], parts: Parts, kind: Kind, when: str) -> Memory:
    moving = state["gradients"] + parts[ACTIVATIONS] + parts[LOGITS]
    return Memory(
        weights=state["weights"],
        gradients=state["gradients"],
        optimizer=state["optimizer"],
        activations=parts[ACTIVATIONS],
        logits=parts[LOGITS],
        process=state["process"],
        kernels=state["kernels"],
        slack=round(SLACK[kind] * moving),
        when=when,
    )


def _state(weights: int, trained: int, settings: Train) -> dict[str, int]:
    """What is held whatever the rows are, of one process, on the device that computes."""
    launch = settings.launch
    processes = launch.processes * launch.nodes
    moments = trained * MOMENT_BYTES
    if launch.engine == "ddp":
        exchanged = trained * GRADIENT_BYTES if processes > 1 else 0
        return {"weights": weights, "gradients": exchanged, "optimizer": moments}
    half = settings.precision != "float32"
    gradients = trained * (2 if half else GRADIENT_BYTES)
    optimizer = (moments + (trained * MASTER_BYTES if half else 0)) // processes
    if launch.zero != 1:
        gradients //= processes
    if launch.zero == 3:
        weights //= processes
    return {
        "weights": weights,
        "gradients": gradients,
        "optimizer": 0 if launch.offload else optimizer,
    }


def _held(architecture: Architecture, settings: Train, kind: Kind) -> tuple[int, int]:
    """Bytes of weights and the number of trained ones: exact, from as few layers as that takes."""
    layers = architecture.layers
    few = min(layers, 2)
    sizes = [_sizes(architecture, settings, each, kind) for each in range(1, few + 1)]
    weights, trained = sizes[-1]
    if layers > few:
        more = layers - few
        weights += more * (weights - sizes[0][0])
        trained += more * (trained - sizes[0][1])
    return weights, trained


def _sizes(architecture: Architecture, settings: Train, layers: int, kind: Kind) -> tuple[int, int]:
    model, size = skeleton(architecture, settings, layers=layers, device=kind)
    return size, sum(each.numel() for each in model.parameters() if each.requires_grad)


def _deepened(
    architecture: Architecture, settings: Train, forward: Forward, kind: Kind, *, train: bool
) -> list[Parts]:
    """What is traced on a few layers, for all of them."""

    def traced(layers: int) -> tuple[Parts, ...]:
        model, _ = skeleton(architecture, settings, layers=layers, device=kind)
        if train:
            return step(model, forward, settings, kind)
        return (measurement(model, forward, settings, kind),)

    layers, (few, some) = architecture.layers, _DEEP
    if layers <= some:
        return list(traced(layers))
    found = []
    for one, other in zip(traced(few), traced(some), strict=True):
        slope = {name: (other[name] - one[name]) / (some - few) for name in other}
        found.append(
            {name: round(max(0, other[name] + slope[name] * (layers - some))) for name in other}
        )
    return found


def _described(forward: Forward) -> str:
    rows = f"{forward.rows} row{'s' * (forward.rows != 1)}"
    return f"{rows} of {forward.tokens} tokens"


def sizes_of(architecture: Architecture, settings: Train, kind: Kind) -> Sizes:
    """Parameters of the model with its method on it."""
    plain = num_parameters(architecture)
    _, trained = _held(architecture, settings, kind)
    config = architecture.config
    one = int(config.vocab_size) * int(config.hidden_size)
    adapter = settings.method in ("lora", "prefix")
    tied = bool(getattr(config, "tie_word_embeddings", True))
    embedding = one if tied else 2 * one
    return Sizes(plain + trained if adapter else plain, trained, embedding, one)
