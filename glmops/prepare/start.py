"""A recipe of one's own from one's own rows: `glmops new`.

The demo recipe is the starting point, with what the rows themselves decide filled in. Nothing is
written before the rows were read and prepared once, as the recipe will, and every check passed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from glmops.errors import InputError, RecipeError, lookup
from glmops.prepare.formats import FORMATS
from glmops.prepare.survey import Survey, survey
from glmops.recipe import NAME, Recipe, Split, load_params, load_recipe, parse, recipe_path
from glmops.recipe.prepare import OWN_TEMPLATES
from glmops.storage import link_raw, write_text

DESCRIPTION = (
    "A small model trained from scratch on a CPU, to try the pipeline on these rows. For real use, "
    "raise the floors to what the model's users need."
)
# Optimiser steps that a model of the demo's size needs to learn: few rows need more epochs.
STEPS = 500
NAMED_REFUSALS = 5
MOST_LABELS = 100
"""More labels than these are not declared: they would hide the rest of the recipe."""
METRICS = {"classification": "accuracy", "generation": "bleu-4"}
"""Task → the metric of its floor; of the others it is f1."""
COMMENT = """Made by `glmops new` from {rows} rows ({tasks}). Every value may be edited:
`glmops run {name}` runs again what depends on it. `glmops run {name} --dry` says what would run.
"""
LABELS = "The labels that were found. A row with any other label is refused."
REFUSED = (
    "{refused} of the {rows} rows were refused when this was written (`glmops check` or the\n"
    "quarantine of `prepare` names each with its reason). As many may be, and no more: mend\n"
    "the rows and lower this, or raise it when you have seen what else is refused."
)
NONE_REFUSED = "No row was refused when this was written, so none may be."
VOCABULARY = "Tokens that are made from the train rows, which have {n} different characters."
LENGTHS = (
    "The longest row has {prompt} characters of prompt and {target} of answer. A prompt that is\n"
    "longer than this is cut; a row with a longer answer is left out and listed."
)
FLOORS = (
    "Where to start: what always answering the most frequent label would score, and 0 for\n"
    "tasks that have no such answer. Raise them to what the model's users need."
)


@dataclass(frozen=True, slots=True)
class Started:
    """What was made; ``summary`` says in words what the rows are, ``refused`` names bad ones."""

    path: Path
    rows: int
    summary: str
    refused: tuple[str, ...] = ()


def start_recipe(root: Path, name: str, *, format: str, raw: Path, **settings: Any) -> Started:
    """Write recipes/NAME.yaml for the rows at ``raw`` and list it in params.yaml.

    Refused rows are named in the result, and counted in the recipe: it lets as many be refused.

    Args:
        settings: Other keys of the prepare section: ``template``, ``columns``, ``separator``,
            ``encoding``. What is None or empty is not given.
    Raises:
        RecipeError: The name is malformed or taken, the format unknown, or the settings do not fit.
        InputError: The rows cannot be read, or too many of them are refused.
    """
    _check_name(root, name)
    lookup(FORMATS, format, "--format")
    if not raw.exists():
        raise InputError(raw, "no such file or folder", do="Correct the path given to --raw.")
    reading = {"format": format, **{key: value for key, value in settings.items() if value}}
    _require_mapping(reading)
    split = Split.model_validate(load_recipe(root, "demo").prepare.split.model_dump())
    found = survey(raw, reading, split, root)
    text = _recipe_text(root, name, reading, found)
    params = _params_text(root, name, _raw_in_project(root, name, raw))
    path = recipe_path(root, name)
    write_text(path, text)
    write_text(root / "params.yaml", params)
    return Started(path, found.rows, _tasks(found), _named(found))


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


def _require_mapping(reading: Mapping[str, Any]) -> None:
    if reading["format"] == "table" and not ("columns" in reading and "template" in reading):
        what = "a table needs a column for each field, and a template"
        do = "For example --column title=headline --column category=label --template "
        raise RecipeError("format table", what, do=f"{do}headline-category.")


def _named(found: Survey) -> tuple[str, ...]:
    named = [f"{r.file}:{r.line}: {r.reason}" for r in found.refused[:NAMED_REFUSALS]]
    more = len(found.refused) - len(named)
    return (*named, f"… and {more} more") if more else tuple(named)


def _tasks(found: Survey) -> str:
    return ", ".join(f"{count} {task}" for task, count in found.tasks.items())


def _raw_in_project(root: Path, name: str, raw: Path) -> str:
    """The path for params.yaml: rows inside the project as they lie, others through a link."""
    inside = raw.resolve()
    if inside.is_relative_to(root):
        return inside.relative_to(root).as_posix()
    return link_raw(root, name, raw)


def _recipe_text(root: Path, name: str, reading: Mapping[str, Any], found: Survey) -> str:
    recipe = _yaml().load(recipe_path(root, "demo").read_text(encoding="utf-8"))
    recipe["description"] = DESCRIPTION
    tasks = list(found.tasks)
    _fill_prepare(recipe["prepare"], reading, found, tasks)
    encode = recipe["encode"]
    _fill_encode(encode, found)
    for schedule in (recipe["train"]["base"].get("schedule"), recipe["train"]["schedule"]):
        if schedule and "epochs" in schedule and "batch_size" in schedule:
            enough = math.ceil(STEPS * schedule["batch_size"] / sum(found.tasks.values()))
            schedule["epochs"] = max(schedule["epochs"], enough)
    recipe["evaluate"]["max_new_tokens"] = encode["max_answer_tokens"]
    promote = recipe["promote"]
    promote["floors"] = _floors(found)
    promote["max_regression"] = {}
    for rules in ("beats", "slices"):  # they name the demo's tasks
        promote.pop(rules, None)
    promote.yaml_set_comment_before_after_key("floors", before=FLOORS, indent=2)
    recipe.yaml_set_start_comment(COMMENT.format(name=name, rows=found.rows, tasks=_tasks(found)))
    text = _dumped(recipe)
    parse(Recipe, _yaml(typ="safe").load(text), "the new recipe")
    return text


def _fill_prepare(
    prepare: Any, reading: Mapping[str, Any], found: Survey, tasks: list[str]
) -> None:
    given = dict(reading)
    if found.template != OWN_TEMPLATES.get(given["format"]):
        given["template"] = found.template
    for key in [*prepare]:
        if key in ("format", "tasks", "split", "max_refused"):
            del prepare[key]
    given |= {"tasks": tasks}
    if "classification" in tasks and len(found.labels) <= MOST_LABELS:
        given["labels"] = sorted(found.labels)
    refused = len(found.refused)
    # The share is rounded up: it must let through what was measured.
    share = math.ceil(refused / found.rows * 10**6) / 10**6
    given |= {
        "split": found.split.model_dump(),
        "max_refused": {"rows": refused, "share": share},
    }
    for place, (key, value) in enumerate(given.items()):
        prepare.insert(place, key, _flow(value))
    if "labels" in given:
        prepare.yaml_set_comment_before_after_key("labels", before=LABELS, indent=2)
    said = REFUSED.format(refused=refused, rows=found.rows) if refused else NONE_REFUSED
    prepare.yaml_set_comment_before_after_key("max_refused", before=said, indent=2)


def _fill_encode(encode: Any, found: Survey) -> None:
    """Room for the rows: a token is a character or more of them, but for characters that are too
    rare to be tokens, which have up to four."""
    vocabulary = max(1200, min(8000, 300 + 2 * found.characters))
    encode["tokenizer"]["vocab_size"] = -(-vocabulary // 100) * 100
    for key, part in (("max_prompt_tokens", "prompt"), ("max_answer_tokens", "target")):
        needed = found.longest[part] * 1.25 + 16
        encode[key] = next((step for step in (64, 128, 256, 512) if step >= needed), 1024)
    said = VOCABULARY.format(n=found.characters)
    encode.yaml_set_comment_before_after_key("tokenizer", before=said, indent=2)
    said = LENGTHS.format(**found.longest)
    encode.yaml_set_comment_before_after_key("max_prompt_tokens", before=said, indent=2)


def _floors(found: Survey) -> dict[str, float]:
    floors = {f"{task}/{METRICS.get(task, 'f1')}": 0.0 for task in found.tasks}
    if found.labels:
        share = max(found.labels.values()) / found.tasks["classification"]
        floors["classification/accuracy"] = int(share * 100) / 100
    return floors


def _params_text(root: Path, name: str, raw: str) -> str:
    params = _yaml().load((root / "params.yaml").read_text(encoding="utf-8"))
    params["recipes"][name] = {"raw": raw}
    return _dumped(params)


def _flow(value: Any) -> Any:
    """A short list or mapping on one line, as a person would write it."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if not isinstance(value, list | dict):
        return value
    made = CommentedMap(value) if isinstance(value, dict) else CommentedSeq(value)
    made.fa.set_flow_style()
    return made


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
