"""Rows on the disk as they are made, so that a killed evaluation goes on where it was.

One JSON line per row, ``[number, value]``, in the order in which rows finish. A kill can leave half
a line at the end, which is cut off when the journal is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmops.errors import MachineError


@dataclass(frozen=True, slots=True)
class Journal:
    """The rows of one evaluation. Without a path nothing is kept."""

    path: Path | None

    def read(self) -> dict[int, Any]:
        """Row number → value of all whole lines; what comes after them is cut off."""
        if self.path is None or not self.path.is_file():
            return {}
        rows: dict[int, Any] = {}
        whole = 0
        stored = self.path.read_bytes()
        for line in stored.splitlines(keepends=True):
            entry = _entry(line)
            if entry is None:
                break
            rows[entry[0]] = entry[1]
            whole += len(line)
        if whole < len(stored):
            os.truncate(self.path, whole)
        return rows

    def append(self, rows: Mapping[int, Any]) -> None:
        """Keep rows for the next start.

        Raises:
            MachineError: The disk does not take them.
        """
        if self.path is None:
            return
        lines = "".join(f"{json.dumps(entry, ensure_ascii=True)}\n" for entry in rows.items())
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(lines.encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise MachineError(
                self.path,
                f"finished rows could not be written ({error.strerror})",
                do="Make room there, then run the same command again: it goes on from the last "
                "finished rows.",
            ) from error


def _entry(line: bytes) -> tuple[int, Any] | None:
    """Number and value of a whole line."""
    if not line.endswith(b"\n"):
        return None
    try:
        number, value = json.loads(line)
    except (ValueError, TypeError):
        return None
    return (number, value) if isinstance(number, int) else None
