"""The command that says what a recipe will need, before anything runs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from glmops.errors import RecipeError
from glmops.recipe import load_recipe, smoked
from glmops.recipe import smoke as smoke_runs
from glmops.storage import Layout, project_root

if TYPE_CHECKING:
    from glmops.recipe import Recipe
    from glmops.train.plan.whole import Data

people = Console(highlight=False, soft_wrap=True)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*GB?", re.IGNORECASE)


def plan(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name.")],
    smoke: Annotated[bool, typer.Option("--smoke", help="Of its smoke run.")] = False,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="24GB", help="For a GPU of this memory.")
    ] = None,
    probe: Annotated[
        bool, typer.Option(help="Try the longest rows for a few steps on this machine.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")
    ] = False,
) -> None:
    """Peak memory by part, time and disk of a recipe; what to change where it does not fit."""
    root = project_root()
    load_recipe(root, recipe)
    name = _smoke_of(root, recipe) if smoke else recipe
    made = load_recipe(root, name)
    memory = _bytes(gpu) if gpu else None
    with complaints.status("planning"):
        from glmops.train.plan import shown
        from glmops.train.plan.whole import machine_for, make_plan

        machine = machine_for(made.train, "cuda" if gpu else None, memory)
        data = _data(root, name, made)
        found = make_plan(root, name, made, data, machine, try_it=probe)
    if as_json:
        sys.stdout.write(json.dumps(shown.document(found), ensure_ascii=False, indent=1) + "\n")
    else:
        people.print("\n".join(shown.summary(found)), markup=False)


def _smoke_of(root: Path, recipe: str) -> str:
    if smoked(root, recipe):
        return recipe
    if smoked(root, smoke_runs.of(recipe)) is None:
        what = f"has the name of the smoke run of {recipe}"
        raise RecipeError(f"recipes/{smoke_runs.of(recipe)}.yaml", what, do="Rename it.")
    return smoke_runs.of(recipe)


def _data(root: Path, name: str, recipe: Recipe) -> Data:
    """What the stages have made for ``name``: in the project, or where its smoke run lies.

    The rows of a smoke run are few: where there are none yet, they are made.
    """
    from glmops.train.plan.whole import Data

    for place in (root, root / ".glmops" / "runs" / name):
        layout = Layout(place, name)
        encoded = layout.encoded if (layout.encoded / "contract.json").is_file() else None
        prepared = layout.prepared if (layout.prepared / "train.parquet").is_file() else None
        if encoded or prepared:
            return Data(encoded, prepared)
    if other := smoked(root, name):
        return Data(_sample_rows(root, name, other, recipe), None)
    return Data(None, None)


def _sample_rows(root: Path, name: str, other: str, recipe: Recipe) -> Path:
    """The sample rows, encoded as the smoke run will do it, below ``.glmops/work/plan``."""
    from glmops.encode.dataset import encode_dataset
    from glmops.prepare.stage import prepare
    from glmops.storage import fresh_folder

    work = Layout(root, name).work("plan")
    with fresh_folder(work / "prepared") as folder:
        prepare(
            root / smoke_runs.smoke_raw(other, recipe.prepare),
            recipe.prepare,
            root=root,
            folder=folder,
            work=work / "prepare",
            name=name,
        )
    encode_dataset(work / "prepared", recipe.encode, root=root, folder=work / "encoded")
    return work / "encoded"


def _bytes(text: str) -> int:
    """
    Raises:
        RecipeError: No size.
    """
    if not (found := _SIZE.fullmatch(text.strip())):
        raise RecipeError("--gpu", "not a size in GB", got=text, do="Write --gpu 24GB, say.")
    return round(float(found[1]) * 2**30)
