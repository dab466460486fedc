"""The command that scores answers which somebody else made."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from glmops.errors import RecipeError

people = Console(highlight=False, soft_wrap=True)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)

MOST_PROCESSES = 8


def score(
    predictions: Annotated[Path, typer.Argument(help="What was answered; or both, in one file.")],
    references: Annotated[
        Path | None, typer.Argument(metavar="[REFERENCES]", help="The true answers.")
    ] = None,
    *,
    task: Annotated[
        str, typer.Option("--task", help="classification, triples, keywords or generation.")
    ],
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="prediction, reference, id or prompt, by its name."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="For ROUGE and BLEU; no value depends on it.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")
    ] = False,
) -> None:
    """The metrics of a task over any files: JSON Lines, a JSON list, or one answer a line.

    Rows meet by id where both files have one, else by their order. One file with both columns, such
    as the official generated_predictions.txt, needs no second one.
    """
    from glmops.evaluate.judged import judge, summary
    from glmops.evaluate.pairing import pair_files

    with complaints.status("scoring"):
        pairs = pair_files(task, predictions, references, _fields(field or []))
        found = judge(task, pairs, processes=processes or _cores())
    if as_json:
        sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    else:
        people.print("\n".join(summary(found)), markup=False)


def _fields(given: list[str]) -> dict[str, str]:
    fields = {}
    for each in given:
        role, sign, name = each.partition("=")
        if not sign or not name:
            raise RecipeError(
                "glmops score --field", "expected ROLE=NAME", got=each, do="e.g. prediction=predict"
            )
        fields[role] = name
    return fields


def _cores() -> int:
    return min(os.cpu_count() or 1, MOST_PROCESSES)
