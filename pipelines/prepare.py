"""prepare: raw rows → data/prepared/NAME (train, dev, test, quarantine) and the stage's metrics."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from glmops.prepare.stage import prepare, write
from glmops.recipe import Recipe, raw_path
from glmops.storage import Layout, fresh_folder, write_json
from pipelines import process


def body(layout: Layout, recipe: Recipe) -> str:
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("prepare: {task.description}"), TimeElapsedColumn())
    shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with shown, fresh_folder(layout.prepared) as folder:
        task = shown.add_task("starting", total=None)
        made = prepare(
            raw_path(layout.root, layout.name),
            recipe.prepare,
            root=layout.root,
            quarantine=layout.work("prepare") / "quarantine.parquet",
            tell=lambda step: shown.update(task, description=step),
        )
        write(made, folder)
    write_json(layout.reports("prepare") / "metrics.json", made.metrics)
    rows, splits = made.metrics["rows"], made.metrics["splits"]
    sizes = ", ".join(f"{name} {counts['rows']}" for name, counts in splits.items())
    return (
        f"{rows['read']} rows read, {rows['refused']} refused, "
        f"{rows['duplicates']} repeated; {sizes}"
    )


if __name__ == "__main__":
    process.run("prepare", body)
