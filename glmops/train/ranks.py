"""The processes that train together, as each of them sees the others; alone, nothing waits.

Every process runs the same stage on its own share of the rows. What writes files asks ``is_first``,
what reads them calls ``wait`` before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

PATIENCE = timedelta(hours=1)
"""Of a process that waits for another one, which may be writing a large model. Whoever started one
that died notices at once: only for a whole machine that died do the others wait so long."""


def backend() -> str:
    return "nccl" if torch.cuda.is_available() else "gloo"


def join() -> None:
    """Meet the other processes that the environment tells of, as torchrun sets it."""
    distributed.init_process_group(backend(), timeout=PATIENCE)


def trainer_arguments() -> dict[str, Any]:
    """What TrainingArguments must know of the others.

    Every trained weight takes part in every forward, so that nothing need be searched for; and no
    buffer of ours changes, so that none is sent around.
    """
    if not _together():
        return {}
    return {
        "ddp_backend": backend(),
        "ddp_timeout": int(PATIENCE.total_seconds()),
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,
    }


def leave() -> None:
    if _together():
        distributed.destroy_process_group()


def number() -> int:
    """Of this process, from 0."""
    return distributed.get_rank() if _together() else 0


def count() -> int:
    return distributed.get_world_size() if _together() else 1


def is_first() -> bool:
    return number() == 0


def wait() -> None:
    """Until every process is here."""
    if _together():
        distributed.barrier()


def any_of(mine: bool) -> bool:
    """True in every process as soon as it is in one: all of them must call this at the same point.

    What only one process knows (that it was asked to stop) must not make it leave a loop in which
    the others wait for it.
    """
    if not _together():
        return mine
    device = "cuda" if torch.cuda.is_available() else "cpu"
    flag = torch.tensor(int(mine), device=device)
    distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
    return bool(flag.item())


def gathered(mine: Any) -> list[Any]:
    """What each process has, in their order. Every process must call this, and gets all of it."""
    if not _together():
        return [mine]
    found: list[Any] = [None] * count()
    distributed.all_gather_object(found, mine)
    return found


@contextmanager
def first_alone() -> Iterator[bool]:
    """Yields whether this is the process that writes; the others wait at the end of the block."""
    yield is_first()
    wait()


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
