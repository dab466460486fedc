"""Recipes to plan: the demo's, with another base and method."""

from __future__ import annotations

from typing import Any

from glmops.recipe import Recipe, load_recipe
from project import ROOT


def recipe(architecture: str = "glm", family: str = "glm", **train: Any) -> Recipe:
    """The demo, with a base of four heads and what ``train`` says."""
    values = load_recipe(ROOT, "demo").model_dump(exclude_unset=True)
    base = values["train"]["base"] | {"architecture": architecture, "schedule": None}
    values["train"] |= {"base": base | {"hidden_size": 64, "intermediate_size": 256}} | train
    values["encode"] |= {"family": family, "base_text": "none"}
    return Recipe.model_validate(values)


def lora(**changes: Any) -> dict[str, Any]:
    targets = ["query_key_value"]
    return {"lora": {"rank": 2, "alpha": 4, "dropout": 0.0, "targets": targets} | changes}
