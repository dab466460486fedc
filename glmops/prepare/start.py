"""A recipe of one's own from one's own rows: `glmops new`.

The demo recipe is the starting point, with what the rows themselves decide filled in: the tasks
that occur, and the floors. Nothing is written before every row was read and every check passed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from glmops.errors import InputError, RecipeError, lookup
from glmops.prepare import read
from glmops.prepare.formats import FORMATS
from glmops.prepare.split import texts_needed
from glmops.recipe import NAME, Recipe, Split, load_params, parse, recipe_path
from glmops.recipe.prepare import OWN_TEMPLATES
from glmops.records import TASKS, Record
from glmops.storage import link_raw, write_text

DESCRIPTION = (
    "A small model trained from scratch on a CPU, to try the pipeline on these rows. For real use, "
    "raise the floors to what the model's users need."
)
# Optimiser steps that a model of the demo's size needs to learn: few rows need more epochs.
STEPS = 500
# For few rows: larger shares, so that a hash of few texts leaves no side empty.
FEW = {"dev": 0.1, "test": 0.2, "seed": 13}
COMMENT = """Made by `glmops new`. The floors are where to start: what always answering the most
frequent label would score, and 0 for tasks that have no such answer. Raise them.
"""


@dataclass(frozen=True, slots=True)
class Started:
    """What was made; ``summary`` says in words what the rows are."""

    path: Path
    rows: int
    summary: str


def start_recipe(root: Path, name: str, *, format: str, raw: Path) -> Started:
    """Write recipes/NAME.yaml for the rows at ``raw`` and list it in params.yaml.

    Raises:
        RecipeError: The name is malformed or taken, or the format unknown.
        InputError: The rows cannot be read, or some are refused: they are named.
    """
    _check_name(root, name)
    lookup(FORMATS, format, "--format")
    if not raw.exists():
        raise InputError(raw, "no such file or folder", do="Correct the path given to --raw.")
    records, refusals = read(raw, format)
    if refusals:
        first = refusals[0]
        raise InputError(
            f"{first.file}:{first.line}",
            f"{first.reason} (the first of {len(refusals)} refused rows)",
            do=f"Mend the rows (`glmops check {raw} --format {format}` lists all) or drop them.",
        )
    _require_answers(raw, records)
    _require_enough(raw, records)
    path = recipe_path(root, name)
    text = _recipe_text(root, records, format)
    params = _params_text(root, name, _raw_in_project(root, name, raw))
    write_text(path, text)
    write_text(root / "params.yaml", params)
    counts = Counter(record.task for record in records)
    summary = ", ".join(f"{count} {task}" for task, count in counts.most_common())
    return Started(path, len(records), summary)


def _check_name(root: Path, name: str) -> None:
    if not NAME.fullmatch(name):
        raise RecipeError(
            "recipe name",
            "not made of lower-case letters, digits and dashes",
            got=name,
            do="Choose a name such as my-rows.",
        )
    if recipe_path(root, name).exists() or name in load_params(root).recipes:
        raise RecipeError(
            "recipe name", "already taken", got=name, do="Choose another, or edit that recipe."
        )


def _require_answers(raw: Path, records: list[Record]) -> None:
    if any(not record.target for record in records):
        what = "rows without an answer can be predicted, not learned from"
        raise InputError(raw, what, do="Give rows that have the answer's column.")


def _require_enough(raw: Path, records: list[Record]) -> None:
    texts, needed = _texts(records), texts_needed(Split.model_validate(FEW))
    if texts < needed:
        raise InputError(
            raw,
            f"too few different texts to learn from and to test on, {needed} are needed",
            got=texts,
            do="Add rows.",
        )


def _texts(records: list[Record]) -> int:
    return len({record.group for record in records})


def _raw_in_project(root: Path, name: str, raw: Path) -> str:
    """The path for params.yaml: rows inside the project as they lie, others through a link."""
    inside = raw.resolve()
    if inside.is_relative_to(root):
        return inside.relative_to(root).as_posix()
    return link_raw(root, name, raw)


def _recipe_text(root: Path, records: list[Record], format: str) -> str:
    recipe = _yaml().load(recipe_path(root, "demo").read_text(encoding="utf-8"))
    tasks = [task for task in TASKS if any(record.task == task for record in records)]
    recipe["description"] = DESCRIPTION
    recipe["prepare"]["format"] = format
    template = records[0].template
    if template != OWN_TEMPLATES[format]:
        recipe["prepare"]["template"] = template
    recipe["prepare"]["tasks"] = tasks
    if _texts(records) < texts_needed(Split.model_validate(dict(recipe["prepare"]["split"]))):
        recipe["prepare"]["split"].update(FEW)
    for schedule in (recipe["train"]["base"]["schedule"], recipe["train"]["schedule"]):
        enough = math.ceil(STEPS * schedule["batch_size"] / len(records))
        schedule["epochs"] = max(schedule["epochs"], enough)
    recipe["promote"]["floors"] = _floors(records, tasks)
    recipe["promote"]["max_regression"] = {}
    recipe.yaml_set_start_comment(COMMENT)
    text = _dumped(recipe)
    parse(Recipe, _yaml(typ="safe").load(text), "the new recipe")
    return text


def _floors(records: list[Record], tasks: Sequence[str]) -> dict[str, float]:
    metric = {"classification": "accuracy", "generation": "bleu-4"}
    floors = {f"{task}/{metric.get(task, 'f1')}": 0.0 for task in tasks}
    labels = Counter(record.target for record in records if record.task == "classification")
    if labels:
        share = labels.most_common(1)[0][1] / labels.total()
        floors["classification/accuracy"] = int(share * 100) / 100
    return floors


def _params_text(root: Path, name: str, raw: str) -> str:
    params = _yaml().load((root / "params.yaml").read_text(encoding="utf-8"))
    params["recipes"][name] = {"raw": raw}
    return _dumped(params)


def _yaml(typ: str = "rt") -> Any:
    """ruamel's YAML: "rt" keeps a file's comments, "safe" gives plain values."""
    from ruamel.yaml import YAML

    yaml = YAML(typ=typ)
    yaml.width = 120
    return yaml


def _dumped(value: Any) -> str:
    stream = StringIO()
    _yaml().dump(value, stream)
    return stream.getvalue()
