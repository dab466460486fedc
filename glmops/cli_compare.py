"""The command that puts models side by side on the same test rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from glmops.errors import RecipeError
from glmops.storage import project_root, write_text

people = Console(highlight=False)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)

MOST = 26


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="NAME (its champion), NAME@DIGEST, a digest, a folder; with :linear a baseline.",
        ),
    ],
    recipe: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="Where digests are looked for.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the comparison here, as a page.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")
    ] = False,
) -> None:
    """Models side by side: every metric, and its paired difference from the first on equal rows."""
    if not 2 <= len(models) <= MOST:
        do = f"Name 2 to {MOST}, e.g. `glmops compare demo demo@3f2a91c0`."
        raise RecipeError("compare", "expected several models", got=len(models), do=do)
    from glmops.promote import compare_page
    from glmops.promote.compare import compare as side_by_side
    from glmops.promote.naming import named

    root = project_root()
    with complaints.status("comparing"):
        found = side_by_side([named(root, text, recipe) for text in models])
        if html is not None:
            write_text(html, compare_page.render(found))
    if as_json:
        sys.stdout.write(json.dumps(found.as_json(), ensure_ascii=False, indent=1) + "\n")
        return
    people.print(compare_page.table(found))
    if html is not None:
        people.print(f"wrote {escape(str(html))}", soft_wrap=True)
