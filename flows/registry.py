"""What the flow needs of the place where candidates go, and the one that is in use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from glmops.recipe import Recipe
from glmops.storage import Layout

if TYPE_CHECKING:
    from glmops.promote.promotion import Registration


class Registry(Protocol):
    """glmops.promote.promotion, or a toy in its place."""

    def register(
        self, root: Path, layout: Layout, recipe: Recipe, *, overrides: Mapping[str, Any]
    ) -> Registration:
        """Judge, package and register what the stages made; the same candidate is found again."""
        ...

    def already_registered(
        self, root: Path, layout: Layout, recipe: Recipe, *, overrides: Mapping[str, Any]
    ) -> Registration | None:
        """The registration of exactly these outputs, looked up without MLflow."""
        ...


def of_the_project() -> Registry:
    """The registry that `glmops status` shows."""
    from glmops.promote import promotion

    return promotion
