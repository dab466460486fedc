"""`-S section.key=value`: values for one run only, checked in full before anything is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from glmops.errors import RecipeError
from glmops.recipe import Params, Recipe, parse, read_yaml, recipe_values
from glmops.storage import STAGES

OPTION = "-S"


def overridden(root: Path, name: str, settings: Sequence[str]) -> dict[str, Any]:
    """`section.key` → value, from the texts given to -S; a later one for the same key wins.

    Raises:
        RecipeError: A text is malformed, its key or value does not fit the recipe, or it is the
            gate's: the policy is not a run's to change.
    """
    changes = dict(_split(setting) for setting in settings)
    parse(Recipe, edited_recipe(root, name, changes), OPTION)
    return dict(sorted(changes.items()))


def edited_recipe(root: Path, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """recipes/NAME.yaml as plain values, with ``changes`` put in."""
    recipe = recipe_values(root, name)
    for key, value in changes.items():
        *above, last = key.split(".")
        place: Any = recipe
        for part in above:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise RecipeError(f"{OPTION} {key}", f"{part!r} holds no keys", do="Shorten it.")
        place[last] = value
    return recipe


def edited_params(root: Path, name: str, raw: str) -> dict[str, Any]:
    """params.yaml as plain values, with ``raw`` as the rows of ``name``."""
    params: dict[str, Any] = read_yaml(root / "params.yaml")
    parse(Params, params, "params.yaml")
    params["recipes"][name] = {"raw": raw}
    return params


def as_yaml(value: dict[str, Any]) -> bytes:
    """What DVC (YAML 1.2) and our own reader (YAML 1.1) read back as the same values."""
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False).encode("utf-8")


def _split(setting: str) -> tuple[str, Any]:
    key, equals, text = setting.partition("=")
    key = key.strip()
    section, dot, rest = key.partition(".")
    if not equals or not dot or not all(rest.split(".")):
        raise RecipeError(
            OPTION, "expected section.key=value", got=setting, do="Such as -S train.seed=2."
        )
    if section == "promote":
        raise RecipeError(
            f"{OPTION} {key}",
            "the gate's policy is not a run's to change",
            do="Edit the recipe: a reviewer then sees the change.",
        )
    if section not in STAGES:
        raise RecipeError(OPTION, "unknown section", got=section, do=f"Known: {', '.join(STAGES)}.")
    return key, _value(key, text)


def _value(key: str, text: str) -> Any:
    """JSON where it is JSON, since 1e-4 is a number there and a string in YAML 1.1; else YAML."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(
            f"{OPTION} {key}", "not a YAML value", got=text, do="Put quotes around the text."
        ) from None
