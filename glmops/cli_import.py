"""The commands that bring other people's checkpoints in: `import-model` and `import-adapter`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

people = Console(highlight=False, soft_wrap=True)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)


def import_model(
    source: Annotated[Path, typer.Argument(help="A downloaded original-format checkpoint.")],
    target: Annotated[Path, typer.Argument(help="The native folder to write; new or empty.")],
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; else as it is stored.")
    ] = None,
) -> None:
    """Original-format ChatGLM, ChatGLM2, ChatGLM3 or GLM-4 → native safetensors.

    Runs none of the checkpoint's code. A killed import goes on where it was when run again.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from glmops.models.original.importing import import_model as import_checkpoint

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    bars = Progress(
        *columns,
        TimeRemainingColumn(),
        console=complaints,
        transient=True,
        disable=not complaints.is_terminal,
    )
    with bars:
        bar = bars.add_task("checking", total=None)
        done = import_checkpoint(
            source,
            target,
            dtype=dtype,
            on_step=lambda what, count, total: bars.update(
                bar, description=what, completed=count, total=total
            ),
        )
    if done.already:
        people.print(f"Nothing to do: {escape(str(target))} holds this import, whole.")
        return
    size = f"{done.bytes / 1e9:.2f} GB" if done.bytes >= 1e8 else f"{done.bytes / 1e6:.2f} MB"
    people.print(
        f"[green]imported[/green] {done.kind}: {done.tensors} tensors, {size} in "
        f"{escape(str(target))}. import.json there has the hashes."
    )
    if not done.tokenizer:
        people.print("[yellow]The source has no tokenizer[/yellow], so the target has none either.")


def import_adapter(
    source: Annotated[Path, typer.Argument(help="An official prefix or a remote-code LoRA.")],
    target: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    base: Annotated[Path, typer.Option(help="The model it was trained on, in either format.")],
    to: Annotated[str, typer.Option(help="native, or original for the way back.")] = "native",
) -> None:
    """An adapter trained with the published GLM code → a native one, with equal results."""
    from glmops.models.original.adapters import import_adapter as convert

    kind = convert(source, target, base=base, to=to)
    people.print(f"[green]imported[/green] a {kind}: {escape(str(target))}")
