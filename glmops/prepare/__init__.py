"""Raw rows → validated records, quarantine and a split. Light to import."""

from __future__ import annotations

from glmops.prepare.formats import FORMATS, read

__all__ = ["FORMATS", "read"]
