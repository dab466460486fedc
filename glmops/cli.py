"""The one door: every command of glmops. Each imports, inside itself, only the room it needs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from glmops.cli_bakeoff import bakeoff
from glmops.cli_compare import compare
from glmops.cli_import import import_adapter, import_model
from glmops.cli_plan import plan
from glmops.cli_score import score
from glmops.errors import GlmopsError, InputError
from glmops.recipe import load_recipe
from glmops.storage import project_root

if TYPE_CHECKING:
    from flows.run import Outcome

app = typer.Typer(
    help="From raw rows to a reviewed, promoted GLM checkpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
people = Console(highlight=False, soft_wrap=True)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)

Name = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name, as in recipes/.")]
Digest = Annotated[str, typer.Argument(help="A candidate's digest or its first 6+ characters.")]
Actor = Annotated[str, typer.Option("--as", help="Who decides; recorded in the ledger.")]
Reason = Annotated[str, typer.Option(help="Why; recorded in the ledger.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]


def main() -> None:
    """Run a command; a GlmopsError becomes its one line and its exit code."""
    try:
        app()
    except GlmopsError as error:
        complaints.print(f"[red]{escape(str(error))}[/red]")
        sys.exit(error.exit_code)


@app.command()
def run(
    recipe: Name,
    raw: Annotated[Path | None, typer.Option(help="Other raw rows, for this run only.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("-S", metavar="SECTION.KEY=VALUE", help="A recipe value, for this run only."),
    ] = None,
    from_stage: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Run again from this stage on.")
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Say what would run, and run nothing.")
    ] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A tiny model on sample rows: minutes, on any CPU.")
    ] = False,
) -> None:
    """prepare, encode, train, evaluate; then the gate and a candidate in the registry.

    Exit code 0: a candidate waits for review (or there was nothing to do). 3: the gate refused it.
    """
    from flows import run as driver

    outcome = driver.run(
        project_root(),
        recipe,
        overrides=setting or [],
        raw=str(raw) if raw else None,
        from_stage=from_stage,
        dry=dry,
        smoke=smoke,
        say=lambda line: people.print(line, markup=False),
    )
    _say_outcome(outcome)
    raise typer.Exit(outcome.exit_code)


def _say_outcome(outcome: Outcome) -> None:
    registration = outcome.registration
    if registration is None:
        return
    recipe = registration.name_of_model.removesuffix("-candidates")
    short = registration.digest[:12]
    report, here = Path(registration.report), Path.cwd()
    shown = report.relative_to(here) if report.is_relative_to(here) else report
    people.print(f"report   {escape(str(shown))}")
    if not registration.verdict.passed:
        people.print(
            f"[red]gate     {registration.verdict.outcome}[/red]: {short} is not promotable"
        )
        for reason in registration.verdict.reasons:
            people.print(f"         {escape(reason)}")
        return
    if registration.already and not outcome.executed:
        people.print(f"Nothing to do: {short} is registered; `glmops status {recipe}` shows it.")
        return
    if recipe.endswith("-smoke"):
        people.print(f"[green]smoke    passed[/green]: {short} is in {registration.name_of_model}")
        return
    people.print(f"[green]gate     passed[/green]: {short} waits for review. Next:")
    people.print(f"         glmops approve {recipe} {short} --as YOUR-NAME")
    people.print(f"         glmops promote {recipe} {short}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and dashes.")],
    format: Annotated[str, typer.Option("--format", help="The raw format, e.g. context-target.")],
    raw: Annotated[Path, typer.Option(help="Your rows: a file or a folder.")],
    column: Annotated[list[str] | None, typer.Option(help="Of a table: FIELD=COLUMN.")] = None,
    template: Annotated[str | None, typer.Option(help="Not the format's own template.")] = None,
    separator: Annotated[str | None, typer.Option(help="Between a table's columns.")] = None,
    encoding: Annotated[str | None, typer.Option(help="utf-8 or gb18030; else found out.")] = None,
) -> None:
    """A recipe of your own from your own rows: recipes/NAME.yaml, listed in params.yaml."""
    from glmops.prepare.check import columns_of
    from glmops.prepare.start import start_recipe

    settings = {"template": template, "separator": separator, "encoding": encoding}
    with complaints.status("reading the rows"):
        columns = columns_of(column or [])
        made = start_recipe(
            project_root(), name, format=format, raw=raw, columns=columns, **settings
        )
    people.print(f"{made.rows} rows read: {made.summary}")
    if made.refused:
        what = f"Some rows are refused; recipes/{name}.yaml lets as many be, and no more:"
        people.print(f"[yellow]{what}[/yellow]")
        people.print("\n".join(made.refused), markup=False)
    people.print(f"wrote recipes/{name}.yaml and listed it in params.yaml. Next: glmops run {name}")


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A raw file, a folder or a glob.")],
    format: Annotated[str, typer.Option("--format", help="The raw format, e.g. context-target.")],
    column: Annotated[list[str] | None, typer.Option(help="Of a table: FIELD=COLUMN.")] = None,
    template: Annotated[str | None, typer.Option(help="Not the format's own template.")] = None,
    separator: Annotated[str | None, typer.Option(help="Between a table's columns.")] = None,
    encoding: Annotated[str, typer.Option(help="auto, utf-8 or gb18030.")] = "auto",
    card: Annotated[Path | None, typer.Option(help="Write the data card here, as HTML.")] = None,
    as_json: AsJson = False,
) -> None:
    """Validate raw rows without a recipe; exit code 2 if any row, or the file, is refused."""
    from glmops.prepare import check as checking

    settings = {"template": template, "separator": separator, "encoding": encoding}
    try:
        with complaints.status("checking the rows"):
            columns = checking.columns_of(column or [])
            found = checking.check(path, format, columns=columns, **settings)
    except InputError as fault:
        if not as_json:
            raise
        found = checking.refused_file(path, format, fault)
    if card is not None:
        checking.write_card(card, found)
    if as_json:
        _print_json(found)
    else:
        people.print("\n".join(checking.summary(found)), markup=False)
    raise typer.Exit(2 if found["refused"] else 0)


@app.command()
def diff(
    recipe: Name,
    revision: Annotated[str, typer.Argument(metavar="[REV]", help="A git revision.")] = "HEAD",
    as_json: AsJson = False,
) -> None:
    """What changed in the prepared rows since a git revision: rows, labels, lengths."""
    from flows.prepared_versions import versions
    from glmops.prepare.diff import Version
    from glmops.prepare.diff import diff as compare
    from glmops.prepare.diff.summary import summary

    root = project_root()
    with (
        complaints.status("comparing the rows"),
        versions(root, recipe, revision) as two,
    ):
        found = compare(Version(two.old, two.old_where), Version(two.new, two.new_where))
    if as_json:
        _print_json({"recipe": recipe, "notes": two.notes, **found})
        return
    sources = [
        f"{number} ({source.format}{' ' if source.files else ''}{source.files})"
        for number, source in enumerate(load_recipe(root, recipe).prepare.all_sources)
    ]
    people.print("\n".join([*two.notes, *summary(found, sources)]), markup=False)


@app.command()
def status(
    recipe: Annotated[str | None, typer.Argument(metavar="[RECIPE]")] = None,
    as_json: AsJson = False,
) -> None:
    """What is champion, what waits for review, and who approved it."""
    from glmops.promote import promotion

    root = project_root()
    if recipe is not None:
        load_recipe(root, recipe)
    entries = promotion.status(root, recipe)
    if as_json:
        _print_json(entries)
        return
    from glmops.promote.tables import status_table

    for entry in entries:
        people.print(status_table(entry))
    if not entries:
        people.print("Nothing is registered yet. `glmops run RECIPE` makes a candidate.")


@app.command()
def approve(recipe: Name, digest: Digest, actor: Actor, reason: Reason = "") -> None:
    """Say yes to a candidate. Void when the champion or the gate's rules change."""
    from glmops.promote import approvals

    given = approvals.approve(project_root(), recipe, digest, actor=actor, reason=reason)
    people.print(f"{given.actor} approved {given.digest[:12]} ({given.kind})")


@app.command()
def reject(recipe: Name, digest: Digest, actor: Actor, reason: Reason = "") -> None:
    """Say no to a candidate; it takes back the same person's approval."""
    from glmops.promote import approvals

    given = approvals.reject(project_root(), recipe, digest, actor=actor, reason=reason)
    people.print(f"{given.actor} rejected {given.digest[:12]} ({given.kind})")


@app.command()
def promote(recipe: Name, digest: Digest, actor: Actor = "") -> None:
    """Make an approved candidate the champion."""
    from glmops.promote import promotion

    with complaints.status("moving the champion"):
        done = promotion.promote(project_root(), recipe, digest, actor=actor or _user())
    people.print(done.sentence)


@app.command()
def rollback(recipe: Name, actor: Actor = "", reason: Reason = "") -> None:
    """Bring the champion before this one back."""
    from glmops.promote import promotion

    with complaints.status("moving the champion"):
        done = promotion.rollback(project_root(), recipe, actor=actor or _user(), reason=reason)
    people.print(done.sentence)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A recipe (its champion) or a checkpoint folder.")],
    rows: Annotated[Path, typer.Argument(help="JSON Lines with the fields of the prompt.")],
) -> None:
    """Answer rows with a champion or any local checkpoint; one JSON answer a line."""
    from glmops.serve.predict import predict_file

    folder = Path(model)
    if not (folder / "config.json").is_file():
        from glmops.promote import promotion

        folder = promotion.champion_folder(project_root(), model) / "model"
    for row in predict_file(folder, rows):
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")


app.command("bakeoff")(bakeoff)
app.command("compare")(compare)
app.command("plan")(plan)
app.command("score")(score)
app.command("import-model")(import_model)
app.command("import-adapter")(import_adapter)


def _user() -> str:
    import getpass

    return os.environ.get("GLMOPS_ACTOR") or getpass.getuser()


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")
