"""Checkpoints on the disk: each one appears whole, is checked when read, and only the last stay.

A series is the folder of one phase. It holds ``step-000500`` (all that a killed run goes on from)
and ``best-000300`` (the weights of the best moment so far). Every folder has a manifest.json with
the sha256 of its files, the key of the inputs it was made from, and the folders it needs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from glmops.errors import InputError, MachineError
from glmops.storage import fresh_folder, read_json, sha256_file, sha256_tree, write_json

Say = Callable[[str], None]
MANIFEST = "manifest.json"
_GONE = ".gone-"


@dataclass(frozen=True, slots=True)
class Series:
    """The checkpoints of one phase. ``key`` is the hash of everything they depend on."""

    folder: Path
    key: str
    keep: int

    def save(
        self,
        name: str,
        fill: Callable[[Path], None],
        *,
        needed_bytes: int,
        needs: Iterable[str] = (),
    ) -> None:
        """Write the checkpoint ``name``, all or nothing, by ``fill``, which is given a folder.

        Raises:
            MachineError: It could not be written. Nothing of it is left, and what was there stays.
        """
        try:
            with fresh_folder(self.folder / name) as draft:
                fill(draft)
                manifest = {"key": self.key, "needs": sorted(needs), "files": sha256_tree(draft)}
                for file in draft.iterdir():
                    _to_disk(file)
                write_json(draft / MANIFEST, manifest)
                _to_disk(draft)
            _to_disk(self.folder)
        except (OSError, SafetensorError) as error:
            free = shutil.disk_usage(_existing(self.folder)).free
            raise MachineError(
                self.folder / name,
                f"the checkpoint could not be written ({_reason(error)}): it needs "
                f"{_size(needed_bytes)}, and {_size(free)} are free",
                do="Make room there, then run the same command again: it goes on from the last "
                "whole checkpoint.",
            ) from error

    def prune(self, *, also: Iterable[str] = ()) -> None:
        """Leave the last ``keep`` steps, the best moments that they or ``also`` name, no more."""
        steps = self._named("step-")
        for path in steps[: -self.keep]:
            _remove(path)
        wanted = set(also)
        for path in steps[-self.keep :]:
            wanted.update(read_json(path / MANIFEST)["needs"])
        for path in self._named("best-"):
            if path.name not in wanted:
                _remove(path)

    def newest(self, say: Say) -> Path | None:
        """The last whole checkpoint of this series' key; every other one is removed.

        Args:
            say: Told, in a line, of a broken checkpoint and of those of other inputs.
        """
        for left in self.folder.glob(".*"):  # what a kill interrupted
            shutil.rmtree(left)
        for path in reversed(self._named("step-")):
            fault = self._fault(path)
            if fault is None:
                return path
            say(f"{path}: {fault}; it is passed over.")
            _remove(path)
        for path in self._named("best-"):
            _remove(path)
        return None

    def _fault(self, path: Path) -> str | None:
        """What is wrong with a checkpoint, if anything is."""
        try:
            manifest = read_json(path / MANIFEST)
            key, needs, files = (manifest[name] for name in ("key", "needs", "files"))
        except (InputError, KeyError, TypeError):
            return "its manifest cannot be read"
        if key != self.key:
            return "other settings, data or code made it"
        if fault := damaged(path, files):
            return fault
        missing = [name for name in needs if not (self.folder / name / MANIFEST).is_file()]
        if missing:
            return f"{missing[0]} is missing, which it needs"
        return next(filter(None, (self._fault(self.folder / name) for name in needs)), None)

    def _named(self, start: str) -> list[Path]:
        return sorted(self.folder.glob(f"{start}*"))


def damaged(folder: Path, files: dict[str, str]) -> str | None:
    """What is wrong with ``folder`` if its files are not ``files``, path → sha256."""
    for name, expected in sorted(files.items()):
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256_file(folder / name) != expected:
            return f"{name} is damaged"
    return None


def save_finished(folder: Path, key: str, record: dict[str, Any]) -> None:
    """Note beside ``folder``, which is complete, what it was made from and how."""
    whole = {"key": key, "files": sha256_tree(folder), "record": record}
    write_json(folder.with_suffix(".json"), whole)


def read_finished(folder: Path, key: str) -> dict[str, Any] | None:
    """The record of a folder that was finished for ``key``, if every byte of it is there."""
    note = folder.with_suffix(".json")
    if not note.is_file():
        return None
    found = read_json(note)
    if found["key"] != key or damaged(folder, found["files"]):
        return None
    record: dict[str, Any] = found["record"]
    return record


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    """First out of sight, so that a kill leaves no half of it under its name."""
    gone = path.with_name(_GONE + path.name)
    path.rename(gone)
    shutil.rmtree(gone)


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.removeprefix("Error while serializing: ").removeprefix("I/O error: ")


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"
