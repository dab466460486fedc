"""The GLM family: load a checkpoint, its tokenizer, and answer with it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glmops.models.loading import load
    from glmops.models.tokenizers import load_tokenizer

__all__ = ["load", "load_tokenizer"]

_HOMES = {"load": "glmops.models.loading", "load_tokenizer": "glmops.models.tokenizers"}


def __getattr__(name: str) -> Any:
    """Import on first use: ``import glmops.models`` must not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
