"""What `glmops compare` takes: versions, runs, folders and baselines, each by a short name.

demo                     the champion of the recipe demo
demo@3f2a91c0            the candidate whose digest starts like this
3f2a91c0                 the same, where only one recipe knows it, or --recipe says which
reports/demo             a folder: an evaluation, a run's or a recipe's reports, a package
demo@3f2a91c0:linear     a baseline that stands in that one's scorecard
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

from glmops.errors import InputError, RecipeError
from glmops.promote import ledger
from glmops.promote.evaluated import Evaluated, read_baselines, read_evaluated
from glmops.promote.standing import Standing, resolve, standing
from glmops.promote.stored import evaluation_of
from glmops.recipe.evaluate import Baseline

DIGEST = re.compile(r"[0-9a-fA-F]{6,64}")
KINDS = "`NAME` (its champion), `NAME@DIGEST`, a digest, or a folder with an evaluation"


def named(root: Path, text: str, recipe: str | None = None) -> Evaluated:
    """The evaluation that a name on the command line means.

    Args:
        recipe: Where digests alone are looked for; every recipe that the ledger knows when None.
    Raises:
        InputError: A folder holds no evaluation, or more than one; nothing is stored under a name.
        RecipeError: Nothing has this name.
    """
    whole, _, last = text.rpartition(":")
    if whole and last in get_args(Baseline) and not Path(text).exists():
        return _baseline(_model(root, whole, recipe), last, text)
    return _model(root, text, recipe)


def _model(root: Path, text: str, recipe: str | None) -> Evaluated:
    name, at, prefix = text.partition("@")
    if (root / "recipes" / f"{name}.yaml").is_file() and "/" not in name:
        now = standing(root, name)
        return _registered(root, now, resolve(now, prefix) if at else _champion(now))
    if Path(text).is_dir():
        return read_evaluated(evaluation_in(Path(text)), text)
    if DIGEST.fullmatch(text):
        now = standing(root, recipe) if recipe else _who_knows(root, text)
        return _registered(root, now, resolve(now, text))
    raise RecipeError(
        "compare", "no recipe, digest or folder of this name", got=text, do=f"Give {KINDS}."
    )


def _registered(root: Path, now: Standing, digest: str) -> Evaluated:
    return read_evaluated(evaluation_of(root, now.recipe, digest), f"{now.recipe}@{digest[:12]}")


def _champion(now: Standing) -> str:
    if now.champion:
        return now.champion
    known = ", ".join(
        f"{now.recipe}@{d[:12]}" for d in dict.fromkeys(e.digest for e in now.entries)
    )
    do = f"Name a candidate: {known}." if known else f"Run `glmops run {now.recipe}` first."
    raise RecipeError(f"compare {now.recipe}", "there is no champion yet", do=do)


def _who_knows(root: Path, prefix: str) -> Standing:
    found = {e.recipe for e in ledger.read(root) if e.digest.startswith(prefix.lower())}
    if len(found) == 1:
        return standing(root, found.pop())
    what = "several recipes have such a digest" if found else "no recipe has such a digest"
    do = f"Write one of {', '.join(f'{name}@{prefix}' for name in sorted(found))}." if found else ""
    raise RecipeError("compare", what, got=prefix, do=do or "`glmops status` lists them.")


def evaluation_in(folder: Path) -> Path:
    """The one evaluation that a folder holds: itself, a package, a recipe's reports, a run.

    Raises:
        InputError: None, or several.
    """
    for inside in ("", "evaluation", "evaluate"):
        if (folder / inside / "scorecard.json").is_file():
            return folder / inside
    found = sorted((folder / "reports").glob("*/evaluate/scorecard.json"))
    found = found or sorted(folder.glob("*/evaluate/scorecard.json"))
    if len(found) == 1:
        return found[0].parent
    if found:
        listed = ", ".join(str(card.parent) for card in found)
        raise InputError(folder, "more than one evaluation there", do=f"Name one of {listed}.")
    raise InputError(folder, "no evaluation there (scorecard.json)", do="Run the evaluate stage.")


def _baseline(model: Evaluated, baseline: str, text: str) -> Evaluated:
    """A baseline's scores, on the rows of the model that it stands beside."""
    columns = read_baselines(model.folder)
    if baseline not in columns:
        known = ", ".join(columns) or "none"
        do = f"There is: {known}."
        raise InputError(text, "this evaluation has no such baseline", got=baseline, do=do)
    beside = {
        task: {"rows": values["rows"], **values.get("baselines", {}).get(baseline, {})}
        for task, values in model.card.items()
        if task != "test"
    }
    card = {**beside, "test": model.card["test"]}
    return replace(
        model, name=f"{model.name}:{baseline}", card=card, columns=columns[baseline], speaks=False
    )
