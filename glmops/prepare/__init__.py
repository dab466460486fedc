"""Raw rows → validated records, quarantine and a split. Light to import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.prepare.formats import FORMATS

if TYPE_CHECKING:
    from glmops.records import Record, Refusal

__all__ = ["FORMATS", "read"]


def read(
    path: Path | str, format: str, *, root: Path | None = None, **settings: Any
) -> tuple[list[Record], list[Refusal]]:
    """Every raw row as a record or as a refusal: see ``glmops.prepare.rows.read``."""
    from glmops.prepare.rows import read as read_rows  # loads polars

    return read_rows(path, format, root=root, **settings)
