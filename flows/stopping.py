"""Ctrl-C and `kill`: what was asked, and ending the whole tree of stage processes.

A terminal sends Ctrl-C to every process at once; `kill PID` reaches only this one. Both must end
everything, so this process ends what it started, whoever else was told.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPED = 130
"""The exit code of a run that somebody stopped."""

GRACE_SECONDS = 120.0
"""For a training that finishes its step and saves it; whoever does not want to wait asks twice."""
_spared: set[int] = set()


class Stop:
    """Whether somebody asked the run to end. Asked twice, stages get no time to end by themselves;
    asked three times, the process ends on the spot."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        self.times = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGINT and SIGTERM are noted here instead of raised, so that no library is torn apart."""
        with _handling(self._note):
            yield

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """SIGINT and SIGTERM are raised as a KeyboardInterrupt, and noted as well.

        Python drops what a handler raises inside a destructor; hence ``check`` at every turn.
        """
        with _handling(self._note_and_raise):
            yield

    def check(self) -> None:
        if self.requested.is_set():
            raise KeyboardInterrupt

    @property
    def grace_seconds(self) -> float:
        return GRACE_SECONDS if self.times < 2 else 0.0

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.times += 1
        self.requested.set()
        if self.times > 2:
            end_processes(0)
            os._exit(STOPPED)

    def _note_and_raise(self, number: int, frame: FrameType | None) -> None:
        self._note(number, frame)
        raise KeyboardInterrupt


@contextmanager
def spared(pid: int) -> Iterator[None]:
    """A process of ours that is no stage, and must outlive them."""
    _spared.add(pid)
    try:
        yield
    finally:
        _spared.discard(pid)


def end_processes(grace_seconds: float) -> None:
    """Ask every process below this one to end, and make those that do not.

    The stage's command is a shell, its Python, and whatever that started: all are found by
    descent at this moment, so call it again until nothing is left.
    """
    import psutil

    below = []
    for child in psutil.Process().children():
        if child.pid not in _spared:
            try:
                below += [child, *child.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
    for process in below:
        _tell(process, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and any(map(_is_alive, below)):
        time.sleep(0.05)
    for process in below:
        _tell(process, signal.SIGKILL)


def _is_alive(process: psutil.Process) -> bool:
    """A process that nobody has buried yet (a container without an init) is not alive."""
    import psutil

    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _tell(process: psutil.Process, number: int) -> None:
    import psutil

    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@contextmanager
def _handling(handler: Any) -> Iterator[None]:
    """Only a main thread may set handlers; in another the caller's process has its own way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)
