"""One process or many: the train stage as ``train.launch`` says.

Many are started by torchrun's own agent: on one machine, or on several that meet as torchrun lets
them, through the environment:

    MASTER_ADDR, MASTER_PORT (29500), NODE_RANK    the first machine's address, this one's number
    PET_RDZV_ENDPOINT [, PET_RDZV_BACKEND, PET_RDZV_ID]   or any rendezvous of torchrun's

On each machine the stage is started with the same recipe in the same, shared project folder; the
first process writes.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from glmops.errors import GlmopsError, MachineError
from glmops.recipe import Launch
from glmops.train import job, worker, zero

if TYPE_CHECKING:
    from glmops.recipe import Train
    from glmops.train.candidate import Place
    from glmops.train.points import Point

Trained = tuple[list["Point"], dict[str, Any]]

GRACE = 600
"""Seconds that processes which were asked to stop have for a last checkpoint."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def train_as_launched(encoded: Path, settings: Train, place: Place) -> Trained | None:
    """``train_candidate`` on as many processes as ``settings.launch`` says.

    Returns:
        History and numbers; None on a machine that took part without the first process.
    Raises:
        GlmopsError: What a process raised, word for word.
        MachineError: A process died, there are fewer GPUs than processes, or nothing says where
            the other machines are.
    """
    launch = settings.launch
    if launch == Launch():
        from glmops.train.candidate import read_encoded, train_candidate

        return train_candidate(read_encoded(encoded), settings, place)
    require_devices(launch)
    if launch.engine == "deepspeed":
        zero.require_deepspeed()
    folder = place.scratch / f"launch-{_node()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    task = job.Job(encoded, place.root, place.scratch, place.out, settings)
    with _environment(settings):
        _run(launch, task.write(folder))
    return job.read_result(folder)


def require_devices(launch: Launch) -> None:
    """
    Raises:
        MachineError: There are GPUs, but not one for each process.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 < found < launch.processes:
        raise MachineError(
            "train.launch.processes",
            f"each process needs a GPU of its own, and this machine has {found}",
            got=launch.processes,
            do=f"Set processes: {found}, with accumulation so much larger, or use another machine.",
        )


def _run(launch: Launch, path: Path) -> None:
    """Start torchrun's agent in this process and wait for what it starts."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    words = [*_rendezvous(launch), "-m", "glmops.train.worker", str(path)]
    arguments = parse_args(words)  # type: ignore[no-untyped-call]
    try:
        with _quiet_agent(), _own_signals():
            config, command, rest = config_from_args(arguments)
            elastic_launch(config, command)(*rest)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        raise _reason(path.parent, codes) from None
    except SignalException:
        everybody = range(launch.processes * launch.nodes)
        raise _said(path.parent, everybody) or KeyboardInterrupt() from None
    except RendezvousError as error:
        raise MachineError(
            "train.launch.nodes",
            f"the machines did not find each other ({error})",
            do="Start the stage on every machine, and check the address and port they meet at.",
        ) from None


def _rendezvous(launch: Launch) -> list[str]:
    """torchrun's words for how many processes there are and where they meet."""
    words = ["--nnodes", str(launch.nodes), "--nproc-per-node", str(launch.processes)]
    words += ["--shutdown-timeout", str(GRACE)]
    if torch.cuda.is_available():
        words.append("--virtual-local-rank")  # each process sees its GPU, and that alone
    if launch.nodes == 1:
        # A machine without a network, or whose own name leads nowhere, still has this address.
        words += ["--local-addr", "127.0.0.1", "--rdzv-endpoint", "127.0.0.1:0"]
        return [*words, "--rdzv-backend", "c10d", "--rdzv-id", uuid.uuid4().hex]
    if address := os.environ.get("MASTER_ADDR"):
        port = os.environ.get("MASTER_PORT", "29500")
        node = os.environ.get("NODE_RANK", "0")
        return [*words, "--master-addr", address, "--master-port", port, "--node-rank", node]
    if os.environ.get("PET_RDZV_ENDPOINT"):
        backend = os.environ.get("PET_RDZV_BACKEND", "c10d")
        return [*words, "--rdzv-backend", backend]
    raise MachineError(
        "train.launch.nodes",
        "nothing says where the machines meet",
        got=launch.nodes,
        do="Set MASTER_ADDR, MASTER_PORT and NODE_RANK, or PET_RDZV_ENDPOINT, on each of them.",
    )


def _node() -> str:
    return os.environ.get("NODE_RANK") or socket.gethostname()


def _said(folder: Path, numbers: Iterable[int]) -> GlmopsError | None:
    """The first error that one of these processes raised on purpose."""
    errors = (job.read_error(folder, number) for number in numbers)
    return next((error for error in errors if error), None)


def _reason(folder: Path, codes: dict[int, int]) -> BaseException:
    """Why the run ended, from the exit codes of those that failed, first seen first.

    The death of one process makes others fail: with an error of the connection, or by the SIGTERM
    with which torchrun ends them.
    """
    if error := _said(folder, sorted(codes)):
        return error
    if worker.ASKED_TO_STOP in codes.values():
        return KeyboardInterrupt()
    killed = [rank for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM]
    rank = killed[0] if killed else next(iter(codes))
    code = codes[rank]
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    do = f"Read {job.log_of(folder, rank)}, mend it, and run the stage again."
    if code == -signal.SIGKILL:
        do = "Most often memory ran out: see what else runs there, and run the stage again."
    return MachineError(f"train process {rank}", f"{how}{_last_words(folder, rank)}", do=do)


def _last_words(folder: Path, rank: int) -> str:
    log = job.log_of(folder, rank)
    text = log.read_text("utf-8", errors="replace") if log.is_file() else ""
    lines = [line.removeprefix(f"[rank{rank}]:").strip() for line in text.splitlines()]
    said = " | ".join([line for line in lines if line][-2:])
    return f"; its last words: {said}" if said else " without a word"


@contextmanager
def _environment(settings: Train) -> Iterator[None]:
    """What processes inherit: the recipe's threads, and on one machine its loopback for gloo."""
    values = {"OMP_NUM_THREADS": str(settings.threads), worker.LAUNCHER: str(os.getpid())}
    if settings.launch.nodes == 1 and sys.platform == "linux":
        values["GLOO_SOCKET_IFNAME"] = "lo"
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet_agent() -> Iterator[None]:
    """torchrun's agent tells of failures on its own; here they become one error."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _own_signals() -> Iterator[None]:
    """torchrun's agent takes SIGTERM and its like and never gives them back."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
