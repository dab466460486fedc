"""The command that runs several training methods on the same rows and compares them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from glmops.errors import RecipeError
from glmops.storage import project_root

people = Console(highlight=False, soft_wrap=True)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)

STOPPED = 130


def bakeoff(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name.")],
    methods: Annotated[str, typer.Option(metavar="lora,prefix,full", help="What to compare.")],
    seeds: Annotated[
        str, typer.Option(metavar="1,2,3", help="Of training; the recipe's own by default.")
    ] = "",
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Tiny models on sample rows: does every method run?")
    ] = False,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "-S",
            metavar="[METHOD:]SECTION.KEY=VALUE",
            help="A recipe value for all runs, or for those of one method.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="What decides, as task/metric; the metrics with a floor by default."),
    ] = None,
    cheaper_by: Annotated[
        str, typer.Option(metavar="seconds|memory|size", help="Between methods that tie.")
    ] = "seconds",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")
    ] = False,
) -> None:
    """Methods and seeds on the same rows: quality with intervals, time, memory, a recommendation.

    Each is a run of its own; those that are there are not done again. Exit code 1: a run failed.
    """
    from flows import bakeoff as driver
    from glmops.promote.bakeoff import shown

    root = project_root()
    with _stages_on_stderr(as_json):
        found = driver.bakeoff(
            root,
            recipe,
            methods=_words(methods),
            seeds=_numbers(seeds),
            settings=setting or [],
            metrics=metric or [],
            cost=cheaper_by,
            smoke=smoke,
            say=lambda line: (complaints if as_json else people).print(line, markup=False),
        )
    if found is None:
        raise typer.Exit(STOPPED)
    if as_json:
        document = json.dumps(shown.document(found), ensure_ascii=False, indent=1)
        sys.stdout.write(document + "\n")
    else:
        Console(highlight=False).print(shown.table(found))
        page = driver.folder(root, found.recipe) / "bakeoff.html"
        here = Path.cwd()
        shorter = page.relative_to(here) if page.is_relative_to(here) else page
        people.print(f"page     {shorter}", markup=False)
    raise typer.Exit(1 if found.failed else 0)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    words = _words(text)
    for word in words:
        if not word.isdecimal():
            raise RecipeError("--seeds", "not whole numbers", got=text, do="Such as --seeds 1,2,3.")
    return [int(word) for word in words]


@contextmanager
def _stages_on_stderr(wanted: bool) -> Iterator[None]:
    """Stages are processes that speak on our standard output, which is JSON's alone."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
