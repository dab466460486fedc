"""Disk and memory before a run, roughly; and what to say when a GPU's memory was not enough.

The estimate counts what training adds for sure: gradients and AdamW's two moments, in float32, of
the trained weights, and files of known size. Activations depend on the rows, so a run that passes
may still need more than there is; one that fails could not have worked.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import MachineError

if TYPE_CHECKING:
    from glmops.recipe import Train

GRADIENT_BYTES, MOMENT_BYTES, WEIGHT_BYTES = 4, 8, 4
_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a run will ask for beyond what the process already holds."""

    memory: int
    disk: int


def rough_need(model: Any, settings: Train) -> Need:
    """At least so much, for a model that is loaded and has its method on it."""
    parameters = list(model.parameters())
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    everything = sum(each.numel() for each in parameters)
    # A checkpoint holds trained weights and moments; a new one is whole before an old one goes.
    checkpoint = trained * (WEIGHT_BYTES + MOMENT_BYTES)
    own_base = settings.base.method == "scratch"
    exported = everything if settings.export == "merged" or own_base else trained
    disk = (settings.checkpoints.keep + 1) * checkpoint + exported * WEIGHT_BYTES
    shards = settings.launch.processes * settings.launch.nodes if settings.launch.zero else 1
    return Need(trained * (GRADIENT_BYTES + MOMENT_BYTES) // shards, disk)


def require_room(need: Need, scratch: Path, model: Any) -> None:
    """Nothing, if disk and memory hold ``need``.

    Raises:
        MachineError: They do not.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(scratch).free
    if free < need.disk:
        raise MachineError(
            scratch,
            f"checkpoints and the trained model need {gigabytes(need.disk)} of disk",
            got=f"{gigabytes(free)} free",
            do="Free disk, or lower train.checkpoints.keep.",
        )
    device = next(model.parameters()).device
    available = memory_free(device)
    if available < need.memory:
        raise MachineError(
            f"memory of {device}",
            f"gradients and optimiser need {gigabytes(need.memory)} beside the weights",
            got=f"{gigabytes(available)} free",
            do="End other programs here, train with method lora, or split the optimiser "
            "(train.launch: engine deepspeed, zero 2).",
        )


def memory_free(device: Any) -> int:
    """Bytes that a process may still take: of the GPU, or of this machine within its limits."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return min(psutil.virtual_memory().available, _left_in_group())


def out_of_memory(batch: str, tokens: int, device: object) -> MachineError:
    """What to say when a forward of ``batch`` ("1 row", say) does not fit, however it is cut.

    Args:
        tokens: Of the longest row in it.
    """
    return MachineError(
        f"memory of {device}",
        "not enough for one forward and backward, even of the smallest micro-batch",
        got=f"{batch}, the longest of {tokens} tokens",
        do="Set train.gradient_checkpointing: true, train.precision: bfloat16, or "
        "train.quantization: nf4; or shorten rows (encode.max_prompt_tokens).",
    )


def halved(batch: str, smaller: str, accumulation: int) -> str:
    """The line to say when a micro-batch was halved: the step stays the same, only slower."""
    return (
        f"the GPU's memory was not enough for a micro-batch of {batch}: going on with {smaller} "
        f"and accumulation {accumulation}, which makes the same steps. To keep it, set both in "
        "train.schedule."
    )


def gigabytes(size: int) -> str:
    return f"{size / 2**30:.1f} GB" if size >= 2**30 else f"{size / 2**20:.0f} MB"


def _left_in_group() -> int:
    """What a container's limit leaves; more than any machine has where there is none."""
    try:
        limit = (_GROUP / "memory.max").read_text().strip()
        used = int((_GROUP / "memory.current").read_text())
        # Cached files count as used there, but make room when it is asked for.
        stat = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
    except FileNotFoundError:
        return 1 << 60
    if limit == "max":
        return 1 << 60
    return int(limit) - used + int(stat.get("inactive_file", 0))
