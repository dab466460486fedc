"""A moment of a run: everything that the steps after it depend on, written down and put back.

Tensors are kept by the name of their parameter, so that a moment of eight processes, or of
DeepSpeed, is one of a single process too. Only trained weights are kept: the frozen ones are the
base's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from glmops.storage import read_json, write_json
from glmops.train import zero
from glmops.train.points import Point
from glmops.train.ranks import gathered

_SHARD_BYTES = 1 << 30
_SLOTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Moment:
    """A step of a run, as it lies in ``folder``.

    ``unlogged`` is the sum of the losses since the last point, which was made at step ``logged``.
    """

    folder: Path
    step: int
    points: tuple[Point, ...]
    unlogged: float
    logged: int
    scheduler: dict[str, Any]
    scaler: dict[str, Any] | None
    processes: int


def trained(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]


def num_bytes(model: Any, *, optimizer: bool) -> int:
    """Of what ``write_moment`` (or ``write_weights``) writes."""
    tensors = 1 + (len(_SLOTS) if optimizer else 0)
    return sum(weight.numel() * 4 * tensors for _, weight in trained(model))


def write_moment(trainer: Any, points: Sequence[Point], folder: Path | None) -> None:
    """Write what the trainer is now into ``folder``.

    Every process calls this, because parts of it may lie in each; only the first has a folder.
    """
    _write(_tensors(trainer), folder)
    scaler = getattr(trainer.accelerator, "scaler", None)
    unlogged = gathered(trainer._tr_loss.item())
    generators = gathered(_generators())
    if folder is None:
        return
    tensors = {f"{number}.{name}": each for number, own in enumerate(generators)
               for name, each in own.items()}  # fmt: skip
    save_file(tensors, folder / "generators.safetensors")
    record = {
        "step": trainer.state.global_step,
        "points": [asdict(point) for point in points],
        "unlogged": sum(unlogged) / len(unlogged),
        "logged": trainer._globalstep_last_logged,
        "scheduler": trainer.lr_scheduler.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "processes": len(generators),
    }
    write_json(folder / "moment.json", record)


def read_moment(folder: Path) -> Moment:
    record = read_json(folder / "moment.json")
    points = tuple(Point(**point) for point in record.pop("points"))
    return Moment(folder=folder, points=points, **record)


def write_weights(model: Any, folder: Path | None) -> None:
    """The trained weights alone. Every process calls this; only the first has a folder."""
    _write(((f"weight/{name}", zero.whole(weight)) for name, weight in trained(model)), folder)


@torch.no_grad()
def put_weights(model: Any, folder: Path) -> None:
    """The trained weights of a moment, or of ``write_weights``, into a model that is like it."""
    weights = dict(trained(model))
    for name, tensor in _read(folder):
        kind, _, name = name.partition("/")
        if kind == "weight":
            weights.pop(name).copy_(tensor)
    assert not weights, f"{folder} lacks {sorted(weights)[:3]}"


def put_moment(trainer: Any, moment: Moment) -> None:
    """Optimiser, schedule and scaler, once the trainer has made its own.

    The weights (``put_weights``) come before that: DeepSpeed copies them where it takes them over.
    """
    if trainer.is_deepspeed_enabled:
        _put_sharded_optimizer(trainer, moment)
    else:
        _put_optimizer(trainer, moment)
    groups = trainer.optimizer.param_groups
    # One rate for all groups, of which DeepSpeed leaves out the empty ones.
    one_each = {name: moment.scheduler[name][:1] * len(groups)
                for name in ("base_lrs", "_last_lr", "lr_lambdas")}  # fmt: skip
    trainer.lr_scheduler.load_state_dict(moment.scheduler | one_each)
    for group in groups:
        group["lr"] = one_each["_last_lr"][0]
    scaler = getattr(trainer.accelerator, "scaler", None)
    if scaler is not None and moment.scaler is not None:
        scaler.load_state_dict(moment.scaler)


def put_generators(moment: Moment, process: int, seed: int) -> None:
    """torch's generators, which dropout draws from (nothing in a step draws from another one).

    On another number of processes than the moment had, they start anew from seed and step.
    """
    if len(gathered(None)) != moment.processes:
        torch.manual_seed(hash((seed, moment.step, process)))
        return
    tensors = load_file(moment.folder / "generators.safetensors")
    torch.set_rng_state(tensors[f"{process}.cpu"])
    if f"{process}.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors[f"{process}.cuda"])


def _generators() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _tensors(trainer: Any) -> Iterator[tuple[str, torch.Tensor]]:
    sharded = trainer.is_deepspeed_enabled
    state = {} if sharded else trainer.optimizer.state
    if sharded:
        _link(trainer)
    for name, weight in trained(trainer.model):
        yield f"weight/{name}", zero.whole(weight)
        if sharded:
            from deepspeed.utils import safe_get_full_optimizer_state as slot_of

            yield from ((f"{slot}/{name}", slot_of(weight, slot)) for slot in _SLOTS)
        elif weight in state:  # a weight that no loss has reached yet has none
            yield from ((f"{slot}/{name}", state[weight][slot]) for slot in (*_SLOTS, "step"))


def _put_optimizer(trainer: Any, moment: Moment) -> None:
    found: dict[str, dict[str, torch.Tensor]] = {}
    for full_name, tensor in _read(moment.folder):
        slot, _, name = full_name.partition("/")
        if slot != "weight":
            found.setdefault(name, {"step": torch.tensor(float(moment.step))})[slot] = tensor
    names = {weight: name for name, weight in trained(trainer.model)}
    record = trainer.optimizer.state_dict()
    for group, numbers in zip(trainer.optimizer.param_groups, record["param_groups"], strict=True):
        for weight, number in zip(group["params"], numbers["params"], strict=True):
            if names[weight] in found:
                record["state"][number] = found[names[weight]]
    trainer.optimizer.load_state_dict(record)


def _put_sharded_optimizer(trainer: Any, moment: Moment) -> None:
    """DeepSpeed keeps flat parts of all weights; its setters find a weight's place in them."""
    _link(trainer)
    weights = dict(trained(trainer.model))
    for full_name, tensor in _read(moment.folder):
        slot, _, name = full_name.partition("/")
        if slot in _SLOTS:
            zero.put_slot(weights[name], slot, tensor)
    inner = trainer.model_wrapped.optimizer.optimizer
    for state in inner.state.values():
        if "step" in state:
            is_tensor = isinstance(state["step"], torch.Tensor)
            state["step"] = (
                torch.full_like(state["step"], moment.step) if is_tensor else moment.step
            )


def _link(trainer: Any) -> None:
    """Make the optimiser's values known to DeepSpeed's getters and setters.

    They look for them before torch's AdamW has made them: in ZeRO-1 and 2 only once.
    """
    optimizer = trainer.model_wrapped.optimizer
    inner = optimizer.optimizer
    split = getattr(optimizer, "fp32_partitioned_groups_flat", None)  # ZeRO-3
    for flat in split or [each for group in inner.param_groups for each in group["params"]]:
        state = inner.state[flat]
        state.setdefault("step", torch.zeros((), device=flat.device))
        for slot in _SLOTS:
            state.setdefault(slot, torch.zeros_like(flat))
    if split is None:
        optimizer._hp_optimizer_states_linked = False
        optimizer._lazy_init_hp_params_optimizer_state()


def _write(tensors: Iterator[tuple[str, torch.Tensor]], folder: Path | None) -> None:
    """In files of about a gigabyte, so that no more than that is held twice."""
    shard: dict[str, torch.Tensor] = {}
    held, number = 0, 0
    for name, tensor in tensors:
        if folder is None:
            continue
        shard[name] = tensor.detach().cpu().contiguous()
        held += tensor.numel() * tensor.element_size()
        if held >= _SHARD_BYTES:
            save_file(shard, folder / f"tensors-{number:05}.safetensors")
            shard, held, number = {}, 0, number + 1
    if folder is not None and shard:
        save_file(shard, folder / f"tensors-{number:05}.safetensors")


def _read(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for file in sorted(folder.glob("tensors-*.safetensors")):
        yield from load_file(file).items()
