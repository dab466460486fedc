"""The most memory that this process held: of its GPU, or of the machine where it has none.

Bytes; None where the machine does not tell (no GPU, and no Linux).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from glmops.errors import MachineError

_earlier: list[int] = []
"""The peaks before each ``begin``: what is counted anew is forgotten by the machine."""


def begin() -> None:
    """Count from here on. Where Linux does not let a process do that, from its start on."""
    if before := peak():
        _earlier.append(before)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): VmHWM begins anew


def peak() -> int | None:
    """The most since ``begin``."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    return resident() if Path("/proc/self/status").is_file() else None


def peak_ever() -> int:
    """The most since the process began.

    Raises:
        MachineError: The machine does not tell.
    """
    found = [*_earlier, *filter(None, [peak()])]
    if not found:
        raise MachineError("/proc/self/status", "is not there", do="Plan on Linux.")
    return max(found)


def resident() -> int:
    """Of the machine's memory, on Linux. (getrusage begins with what the process's parent held.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise MachineError("/proc/self/status", "has no VmHWM", do="Plan on Linux.")
