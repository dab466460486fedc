"""recipes/NAME.yaml and params.yaml as frozen models: one section per stage, unknown keys refused.

Required means no default; one choice is one Literal. Nothing here reads a file on import, and no
validator does I/O.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from glmops.errors import RecipeError
from glmops.recipe.encode import Encode, TokenizerSource
from glmops.recipe.prepare import Lengths, MaxRefused, Prepare, SourceSettings, Split
from glmops.recipe.section import Fraction, Positive, Section

__all__ = [
    "Encode",
    "Lengths",
    "MaxRefused",
    "Prepare",
    "SourceSettings",
    "Split",
    "TokenizerSource",
]

M = TypeVar("M", bound=BaseModel)
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")

# CPU threads of torch. Part of the recipe, because another number rounds sums in another order.
# A small model is fastest on one: more of them mostly wait for each other.
Threads = Positive


class Schedule(Section):
    """One optimisation run: AdamW, linear warm-up, then cosine to zero."""

    epochs: Annotated[float, Field(gt=0)]
    batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    warmup_fraction: Fraction
    weight_decay: Annotated[float, Field(ge=0)]


class ScratchBase(Section):
    """A small GLM that the train stage makes before it fine-tunes."""

    method: Literal["scratch"]
    hidden_size: Positive
    intermediate_size: Positive
    layers: Positive
    heads: Positive
    kv_heads: Positive
    schedule: Schedule

    @model_validator(mode="after")
    def _heads_divide(self) -> ScratchBase:
        if self.hidden_size % self.heads or self.heads % self.kv_heads:
            raise ValueError(
                f"heads must divide hidden_size and kv_heads must divide heads, got hidden_size "
                f"{self.hidden_size}, heads {self.heads}, kv_heads {self.kv_heads}"
            )
        return self


class Lora(Section):
    rank: Positive
    alpha: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: tuple[str, ...] = Field(min_length=1)


class Train(Section):
    seed: int
    threads: Threads
    base: ScratchBase
    method: Literal["lora"]
    lora: Lora
    schedule: Schedule
    export: Literal["merged"]
    """merged: the adapter folded into full-precision weights, which are what evaluate scores."""


class Evaluate(Section):
    split: Literal["dev", "test"]
    batch_size: Positive
    max_new_tokens: Positive
    threads: Threads


class Promote(Section):
    """The gate's rules and the review policy. Metric names are ``task/metric``."""

    floors: dict[str, float] = Field(min_length=1)
    max_regression: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """How far below the champion a metric's interval may reach, on the same test rows."""
    min_rows: Positive = 1
    """Fewer test rows of a task than this: the gate says it cannot tell."""
    approvals: Positive = 1
    """Distinct reviewers needed before promotion."""


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
        for metric in (*self.promote.floors, *self.promote.max_regression):
            if metric.partition("/")[0] not in self.prepare.tasks:
                raise ValueError(
                    f"promote names the metric {metric!r}, whose task is not in prepare.tasks "
                    f"{list(self.prepare.tasks)}"
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
    """The recipe ``name`` of the project at ``root``, checked in full."""
    path = recipe_path(root, name)
    if not NAME.fullmatch(name) or not path.is_file():
        known = sorted(file.stem for file in (root / "recipes").glob("*.yaml"))
        raise RecipeError("recipe", "no such recipe", got=name, do=f"Known: {', '.join(known)}.")
    return parse(Recipe, read_yaml(path), path.relative_to(root))


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
            do=f"Add `{name}: {{raw: PATH}}` there, or make one with `glmops new`.",
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
        key = ".".join(str(part) for part in fault["loc"])
        place = f"{where} {key}" if key else f"{where}"
        if fault["type"] == "extra_forbidden":
            known = ", ".join(_known_keys(model, fault["loc"]))
            raise RecipeError(place, "unknown key", do=f"Known here: {known}.") from None
        what = fault["msg"].removeprefix("Value error, ")
        what = what[0].lower() + what[1:]
        if fault["type"] in ("missing", "value_error"):
            raise RecipeError(place, what, do="Correct the recipe.") from None
        raise RecipeError(place, what, got=fault["input"], do="Correct the value.") from None


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed where an unknown one was found."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
