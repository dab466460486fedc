"""recipes/NAME.yaml and params.yaml as frozen models: one section per stage, unknown keys refused.

Required means no default; one choice is one Literal. Nothing here reads a file on import, and no
validator does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from glmops.errors import RecipeError
from glmops.recipe.encode import Encode, TokenizerSource
from glmops.recipe.evaluate import Baseline, Evaluate
from glmops.recipe.prepare import Lengths, MaxRefused, Prepare, SourceSettings, Split
from glmops.recipe.promote import Promote, SliceRule
from glmops.recipe.section import Section
from glmops.recipe.smoke import SUFFIX, smoke_values
from glmops.recipe.train import (
    Base,
    Best,
    Checkpoints,
    Launch,
    Lora,
    Prefix,
    PretrainedBase,
    Schedule,
    ScratchBase,
    Train,
)

__all__ = [
    "Base",
    "Baseline",
    "Best",
    "Checkpoints",
    "Encode",
    "Evaluate",
    "Launch",
    "Lengths",
    "Lora",
    "MaxRefused",
    "Prefix",
    "Prepare",
    "PretrainedBase",
    "Promote",
    "Schedule",
    "ScratchBase",
    "SliceRule",
    "SourceSettings",
    "Split",
    "TokenizerSource",
    "Train",
]

FAMILIES = {"glm": ("glm", "chatglm2", "chatglm3"), "chatglm": ("chatglm",)}
"""Architecture of a base made here → the layouts of tokens that are its own."""

RESERVED = "base"
"""models/base holds the user's own checkpoints; DVC empties models/NAME before it trains NAME."""

M = TypeVar("M", bound=BaseModel)
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


class Recipe(Section):
    description: str
    """What a reader of the report must know about this model, in a sentence or two."""
    prepare: Prepare
    encode: Encode
    train: Train
    evaluate: Evaluate
    promote: Promote

    @model_validator(mode="after")
    def _metrics_belong_to_tasks(self) -> Recipe:
        for metric in self.promote.metrics:
            if metric.partition("/")[0] not in self.prepare.tasks:
                raise ValueError(
                    f"promote names the metric {metric!r}, whose task is not in prepare.tasks "
                    f"{list(self.prepare.tasks)}"
                )
        return self

    @model_validator(mode="after")
    def _rules_have_what_they_ask_for(self) -> Recipe:
        for metric, baseline in self.promote.beats.items():
            if baseline not in self.evaluate.baselines:
                raise ValueError(
                    f"promote.beats asks {metric} to beat {baseline}, which is not in "
                    f"evaluate.baselines {list(self.evaluate.baselines)}"
                )
        for metric, rules in self.promote.slices.items():
            by_class = any(rule.by == "class" for rule in rules)
            if by_class and not metric.startswith("classification/"):
                raise ValueError(f"promote.slices by class needs a classification metric: {metric}")
        return self

    @model_validator(mode="after")
    def _base_text_is_learnt(self) -> Recipe:
        base = self.train.base
        learns = base.method == "scratch" and base.schedule is not None
        if learns and self.encode.base_text == "none":
            raise ValueError("train.base.schedule needs encode.base_text, got none")
        if not learns and self.encode.base_text != "none":
            raise ValueError(
                "encode.base_text is what a base made from scratch learns from, and train.base has "
                f"no schedule; use base_text: none, got {self.encode.base_text}"
            )
        return self

    @model_validator(mode="after")
    def _layout_is_the_architectures(self) -> Recipe:
        base, family = self.train.base, self.encode.family
        if base.method == "scratch" and family not in FAMILIES.get(base.architecture, ("gpt",)):
            raise ValueError(
                f"train.base.architecture {base.architecture} does not read rows of encode.family "
                f"{family}; known: {', '.join(FAMILIES.get(base.architecture, ('gpt',)))}"
            )
        return self


class Source(Section):
    """One entry of params.yaml: where a recipe's raw rows lie, relative to the project root."""

    raw: str = Field(min_length=1)


class Params(Section):
    recipes: dict[Annotated[str, Field(pattern=rf"^{NAME.pattern}$")], Source]


def recipe_path(root: Path, name: str) -> Path:
    return root / "recipes" / f"{name}.yaml"


def load_recipe(root: Path, name: str) -> Recipe:
    """The recipe ``name`` of the project at ``root``, checked in full.

    ``NAME-smoke`` is the smoke run of NAME, unless there is a file of that name.
    """
    if other := smoked(root, name):
        values, where = recipe_values(root, name), f"recipes/{other}.yaml --smoke"
        return parse(Recipe, values, where)
    return parse(Recipe, recipe_values(root, name), recipe_path(root, name).relative_to(root))


def recipe_values(root: Path, name: str) -> dict[str, Any]:
    """A recipe as its file has it; that of a smoke run as it follows from the other's file.

    Raises:
        RecipeError: There is no such recipe, or the other one is faulty.
    """
    if other := smoked(root, name):
        values = recipe_values(root, other)
        parse(Recipe, values, f"recipes/{other}.yaml")
        return smoke_values(other, values)
    path = recipe_path(root, name)
    if not NAME.fullmatch(name) or not path.is_file():
        known = sorted(file.stem for file in (root / "recipes").glob("*.yaml"))
        raise RecipeError("recipe", "no such recipe", got=name, do=f"Known: {', '.join(known)}.")
    if name == RESERVED:
        raise RecipeError(
            f"recipes/{name}.yaml",
            "models/base is where your base checkpoints lie, so no recipe can write there",
            do="Rename the recipe.",
        )
    values = read_yaml(path)
    return values if isinstance(values, dict) else {"recipe": values}


def smoked(root: Path, name: str) -> str | None:
    """The recipe whose smoke run is called ``name``; None where ``name`` has a file of its own."""
    other = name.removesuffix(SUFFIX)
    if other == name or not NAME.fullmatch(name) or recipe_path(root, name).is_file():
        return None
    return other if recipe_path(root, other).is_file() else None


def load_params(root: Path) -> Params:
    return parse(Params, read_yaml(root / "params.yaml"), "params.yaml")


def raw_path(root: Path, name: str) -> Path:
    """Where params.yaml says the raw rows of ``name`` are; says how to list a recipe it lacks."""
    recipes = load_params(root).recipes
    if name not in recipes:
        raise RecipeError(
            "params.yaml",
            "this recipe is not listed under recipes",
            got=name,
            do=f"Add `{name}: {{raw: PATH}}` there, with the path of its rows, or try it on sample "
            f"rows first: `glmops run {name} --smoke`.",
        )
    path = root / recipes[name].raw
    if not path.exists():
        raise RecipeError(
            f"params.yaml recipes.{name}.raw",
            "no such file or folder",
            got=recipes[name].raw,
            do="Correct the path, or fetch the data (`dvc pull`).",
        )
    return path


def read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(path, "no such file", do="Restore it from git.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        where = f"{path}:{place.line + 1}" if place else path
        problem = getattr(error, "problem", None) or str(error)
        raise RecipeError(where, f"not YAML ({problem})", do="Correct the line.") from None


def parse(model: type[M], value: Any, where: object) -> M:
    """Check ``value`` against ``model``; the first fault becomes one line that names its key."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        location = _without_tags(model, fault["loc"])
        key = ".".join(str(part) for part in location)
        place = f"{where} {key}" if key else f"{where}"
        if fault["type"] == "extra_forbidden":
            known = ", ".join(_known_keys(model, location, value))
            raise RecipeError(place, "unknown key", do=f"Known here: {known}.") from None
        what = fault["msg"].removeprefix("Value error, ")
        what = what[0].lower() + what[1:]
        if fault["type"] in ("missing", "value_error"):
            raise RecipeError(place, what, do="Correct the recipe.") from None
        raise RecipeError(place, what, got=fault["input"], do="Correct the value.") from None


def _without_tags(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """pydantic names the chosen member of a union in the middle of the keys: train.base.scratch."""
    kept: list[int | str] = []
    inside: Any = model
    for part in location:
        members = _members(inside)
        if not kept or len(members) < 2 or part not in _tags(members):
            kept.append(part)
            inside = _field(members, part)
        else:
            inside = next(m for m in members if part in _tags([m]))
    return tuple(kept)


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...], value: Any) -> list[str]:
    """The keys allowed where an unknown one was found."""
    inside: Any = model
    for part in location[:-1]:
        inside = _field(_members(inside), part)
        value = value.get(part) if isinstance(value, dict) else None
        tag = value.get("method") if isinstance(value, dict) else None
        members = _members(inside)
        inside = next((m for m in members if len(members) > 1 and tag in _tags([m])), inside)
    return [name for member in _members(inside)[:1] for name in member.model_fields]


def _members(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a key may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [each for part in get_args(annotation) for each in _members(part)]


def _tags(members: Sequence[type[BaseModel]]) -> set[Any]:
    fields = [member.model_fields.get("method") for member in members]
    return {tag for field in fields if field for tag in get_args(field.annotation)}


def _field(members: Sequence[type[BaseModel]], part: int | str) -> Any:
    found = (member.model_fields.get(str(part)) for member in members)
    return next((field.annotation for field in found if field), None)
