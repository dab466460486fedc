"""prepare: raw rows → data/prepared/NAME (three sides, quarantine), metrics, card, Data Docs."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from glmops.prepare.stage import CARD, CARD_PAGE, DATA_DOCS, prepare
from glmops.recipe import Recipe, raw_path
from glmops.storage import Layout, fresh_folder, write_json
from pipelines import process


def body(layout: Layout, recipe: Recipe) -> str:
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("prepare: {task.description}"), TimeElapsedColumn())
    shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    work, reports = layout.work("prepare"), layout.reports("prepare")
    with shown, fresh_folder(layout.prepared) as folder:
        task = shown.add_task("starting", total=None)
        metrics = prepare(
            raw_path(layout.root, layout.name),
            recipe.prepare,
            root=layout.root,
            folder=folder,
            work=work,
            name=layout.name,
            tell=lambda step: shown.update(task, description=step),
        )
    with fresh_folder(reports / DATA_DOCS) as docs:
        docs.rmdir()
        (work / DATA_DOCS).rename(docs)
    for name in (CARD, CARD_PAGE):
        (work / name).replace(reports / name)
    write_json(reports / "metrics.json", metrics)
    return said(metrics)


def said(metrics: dict) -> str:
    """The stage's line: what became of the rows, and what a reader should know about them."""
    rows = metrics["rows"]
    sizes = ", ".join(f"{name} {counts['rows']}" for name, counts in metrics["splits"].items())
    text = (
        f"{rows['read']} rows read, {rows['refused']} refused, "
        f"{rows['duplicates']} repeated; {sizes}"
    )
    for name, file in metrics["files"].items():
        if file["encoding"] == "gb18030":
            text += f"; {name} is GB18030"
        if file["rows"] and file["duplicates"] == file["rows"]:
            text += f"; EVERY ROW of {name} repeats an earlier one"
    if near := metrics["near_duplicates"]["texts"]:
        text += f"; {near} texts are near copies of others"
    return text


if __name__ == "__main__":
    process.run("prepare", body)
