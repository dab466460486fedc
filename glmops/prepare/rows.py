"""Raw frames → row frames: one template over whole columns, and what it cannot be given.

``read_rows`` is what the stage and `glmops check` read a source with; ``read`` gives the same rows
as records. A row frame has the columns ROWS of ``frames``: ``head + body + cue`` is the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl

from glmops.errors import InputError, RecipeError, lookup
from glmops.prepare.formats import FORMATS, Layout, own_template
from glmops.prepare.frames import PLACE, REFUSALS, ROWS, is_blank, split_off
from glmops.prepare.raw.reading import OnFile, layout_of, read_batches
from glmops.prepare.rendering import answer, group, with_prompt
from glmops.prepare.targets import BadRow, task_of
from glmops.recipe import parse
from glmops.recipe.prepare import SourceSettings
from glmops.records import Record, Refusal
from glmops.templates import TEMPLATES, Template


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a source: as read, as rows of a template, and those that were refused."""

    raw: pl.DataFrame
    """A raw frame of the rows in ``rows``, in their order."""
    rows: pl.DataFrame
    refusals: pl.DataFrame

    @property
    def read(self) -> int:
        return self.rows.height + self.refusals.height


def read_rows(
    path: Path | str,
    source: SourceSettings,
    *,
    index: int = 0,
    root: Path | None = None,
    on_file: OnFile = lambda opened: None,
    answers: bool = True,
) -> Iterator[Batch]:
    """Every raw row of a source as a row or as a refusal, in batches of about 16 MB of text.

    Args:
        index: The source's place in the recipe, for the column ``source``.
        on_file: Told what was found out about a file, before its first batch.
        answers: False: rows of a file without the answer's column have an empty target, instead of
            the file being refused.
    Raises:
        InputError: A path or a whole file cannot be used.
        RecipeError: The template asks for a field that the format has not.
    """
    layout = layout_of(source)
    for raw, refused in read_batches(path, source, root=root, on_file=on_file):
        own = None if source.format == "table" else own_template(source.format, tuple(raw.columns))
        name = source.template or own or ""
        bare = _without_answer(raw, name, source, layout, answers=answers)
        rows, more = rows_of(
            raw,
            name,
            key=layout.key,
            keyed=own in (None, name),
            index=index,
            weight=source.weight,
            answers=not bare,
        )
        kept = raw if not more.height else raw.join(more, on=["file", "line"], how="anti")
        yield Batch(kept, rows, pl.concat([refused, more]).sort("line"))


def rows_of(
    raw: pl.DataFrame,
    template: str,
    *,
    key: str | None = None,
    keyed: bool = True,
    index: int = 0,
    weight: float = 1.0,
    answers: bool = True,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A raw frame's rows under a template, and a refusal for each that it cannot be given.

    Refused is a row in which a field that the template needs is blank, or whose answer has not the
    shape that it begins with.

    Args:
        key: The field that names a row; without one its id is a hash of prompt and target.
        keyed: False: the id says the template, too, since it is not the format's own.
        answers: False: every target is empty.
    """
    made = lookup(TEMPLATES, template, "template")
    needed = [name for name in made.needed if answers or name in made.fields]
    if key is not None and key not in needed:
        needed.append(key)
    blank = [
        pl.when(is_blank(pl.col(name)).fill_null(True)).then(pl.lit(f"{name!r} is empty"))
        for name in needed
    ]
    raw, refused = split_off(raw, pl.coalesce(blank))
    columns = [name for name in raw.columns if name not in PLACE]
    target = answer(made, columns) if answers else pl.lit("").alias("target")
    rows = with_prompt(raw, made, columns).with_columns(target)
    rows = rows.with_columns(group(made, columns))
    rows, odd = _with_task(rows, made, answers=answers)
    rows = rows.with_columns(
        pl.lit(template).alias("template"),
        pl.lit(index, pl.Int64).alias("source"),
        pl.lit(weight, pl.Float64).alias("weight"),
        _ids(rows, key, "" if keyed else f":{template}"),
    )
    return rows.select(*ROWS), pl.concat([refused, odd]).sort("line")


def read(
    path: Path | str, format: str, *, root: Path | None = None, **settings: Any
) -> tuple[list[Record], list[Refusal]]:
    """Every raw row of a file, folder or glob as a record or as a refusal, repeated rows too.

    Papers without label and keywords are rows to predict: their records have an empty target.

    Args:
        root: Files below it are named relative to it; the project around here when None.
        settings: The other keys of SourceSettings, such as ``template`` and ``columns``.
    Raises:
        RecipeError: The format is unknown, or the settings do not fit it.
        InputError: The path or a whole file cannot be used.
    """
    lookup(FORMATS, format, "format")
    source = parse(SourceSettings, {"format": format, **settings}, "format")
    records: list[Record] = []
    refusals: list[Refusal] = []
    names = [field.name for field in fields(Record) if field.name in ROWS]
    for batch in read_rows(path, source, root=root, answers=False):
        records += [Record(**row) for row in batch.rows.select(names).iter_rows(named=True)]
        refusals += [Refusal(**row) for row in batch.refusals.iter_rows(named=True)]
    return records, refusals


def _without_answer(
    raw: pl.DataFrame, name: str, source: SourceSettings, layout: Layout, *, answers: bool
) -> bool:
    """Whether a file lacks the answer's column; refused when ``answers`` are needed.

    Raises:
        RecipeError: The template needs a field that the format never has.
        InputError: The file lacks a field that the template needs.
    """
    made = lookup(TEMPLATES, name, "template")
    strange = [field for field in made.needed if field not in layout.fields]
    if strange:
        raise RecipeError(
            f"template {name}",
            f"it needs the field {strange[0]!r}, and the format {source.format} has "
            f"{', '.join(layout.fields)}",
            do="Name another template.",
        )
    absent = [field for field in made.needed if field not in raw.columns]
    if absent and (answers or any(field in made.fields for field in absent)) and raw.height:
        raise InputError(
            raw.item(0, "file"),
            f"it has no column for {' and '.join(absent)}, which the template {name} needs",
            do="These rows have no answer to learn: leave the file out, or name another template.",
        )
    return bool(absent)


def _with_task(
    rows: pl.DataFrame, template: Template, *, answers: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows with their task: the template's, or what the shape of each target says."""
    if template.task is not None or not answers:
        said = pl.lit(template.task, pl.String).alias("task")
        return rows.with_columns(said), pl.DataFrame(schema=REFUSALS)
    shapes: dict[str, list[str | None]] = {"target": [], "task": [], "reason": []}
    for target in rows["target"].unique():
        task, reason = _task_or_reason(target)
        for name, value in zip(shapes, (target, task, reason), strict=True):
            shapes[name].append(value)
    found = pl.DataFrame(shapes, schema=dict.fromkeys(shapes, pl.String))
    judged = rows.join(found, on="target", how="left", maintain_order="left")
    kept, odd = split_off(judged.rename({"reason": "fault"}), pl.col("fault"))
    return kept.drop("fault"), odd


def _task_or_reason(target: str) -> tuple[str | None, str | None]:
    try:
        return task_of(target), None
    except BadRow as bad:
        return None, str(bad)


def _ids(rows: pl.DataFrame, key: str | None, also: str) -> pl.Series:
    """The format's own id, or the hash of prompt and target."""
    if key is not None:
        return (rows[key] + also).alias("id")
    whole = pl.concat_str("head", "body", "cue", pl.lit("\0"), "target").cast(pl.Binary)
    texts = rows.select(whole).to_series().to_list()
    return pl.Series("id", [sha256(text).hexdigest()[:16] for text in texts], dtype=pl.String)
