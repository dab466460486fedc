"""The hidden folder in which an import is written: one writer at a time, and what is done stays."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmops.errors import InputError, MachineError
from glmops.storage import read_json, sha256_file, write_json

_PROGRESS = ".progress.json"


@dataclass(frozen=True, slots=True)
class Draft:
    """``finished``: file name → sha256 of the files that were written whole, now or before."""

    folder: Path
    target: Path
    plan: Mapping[str, Any]
    finished: dict[str, str]

    def finish(self, name: str, digest: str) -> None:
        """Note that ``name`` is whole, so that another run need not write it again."""
        self.finished[name] = digest
        write_json(self.folder / _PROGRESS, {"plan": self.plan, "finished": self.finished})

    def publish(self) -> None:
        """Give the folder its name. From here on the import exists."""
        (self.folder / _PROGRESS).unlink(missing_ok=True)
        try:
            self.folder.rename(self.target)
        except OSError as error:
            raise MachineError(
                self.target, f"appeared while it was being written ({error})", do="Run it again."
            ) from error


@contextmanager
def open_draft(target: Path, plan: Mapping[str, Any]) -> Iterator[Draft]:
    """The draft of ``target``, with what an interrupted run of the same ``plan`` left in it.

    Raises:
        MachineError: Another process is writing it.
    """
    target = target.resolve()  # "." has no name of its own
    folder = target.parent / f".{target.name}.importing"
    folder.mkdir(parents=True, exist_ok=True)
    with _only_writer(folder):
        finished = _finished(folder, plan)
        for path in folder.iterdir():
            if path.name not in (*finished, _PROGRESS):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield Draft(folder, target, plan, finished)


def _finished(folder: Path, plan: Mapping[str, Any]) -> dict[str, str]:
    """The files of an earlier run that are whole. Hashed again: a power cut may have torn them."""
    with suppress(InputError):  # no progress, or a file that was cut: begin anew
        progress = read_json(folder / _PROGRESS)
        if progress.get("plan") == plan:
            recorded: dict[str, str] = progress["finished"]
            return {
                name: digest
                for name, digest in recorded.items()
                if (folder / name).is_file() and sha256_file(folder / name) == digest
            }
    return {}


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """The kernel gives this lock back when the process ends, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held the lock may have published the folder since it was opened here.
            same = folder.exists() and folder.stat().st_ino == os.fstat(handle).st_ino
        except BlockingIOError:
            same = False
        if not same:
            raise MachineError(
                folder, "another import is writing it", do="Wait for it, then run this again."
            )
        yield
    finally:
        os.close(handle)
