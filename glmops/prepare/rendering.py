"""A template over whole columns: the same text as ``Template.prompt`` gives for one row."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import polars as pl

from glmops.prepare.frames import normalised
from glmops.templates import Template, pieces

_FIELD = re.compile(r"\{([a-z]+)\}")
NOTHING = pl.lit("")


def with_prompt(frame: pl.DataFrame, template: Template, columns: Collection[str]) -> pl.DataFrame:
    """The frame with the columns head, body, cue and turns.

    Args:
        columns: The fields among its columns, all String; ``history`` may be one of them.
    """
    if template.pattern:
        return _by_pattern(frame, template)
    fields = {name: pl.col(name) for name in columns}
    head, body, cue = (
        rendered(part, fields) for part in (template.head, template.body, template.cue)
    )
    turns = NOTHING
    if template.turns and "history" in columns:
        head = pl.concat_str(_history(template, ""), head)
        turns = _history(template, ",")
    parts = {"head": head, "body": body, "cue": cue, "turns": turns}
    return frame.with_columns(part.alias(name) for name, part in parts.items())


def answer(template: Template, columns: Collection[str]) -> pl.Expr:
    """The target."""
    return rendered(template.answer, {name: pl.col(name) for name in columns}).alias("target")


def group(template: Template, columns: Collection[str]) -> pl.Expr:
    """What keeps rows of one source text together: that text, its white space made equal."""
    fields = {name: pl.col(name) for name in columns}
    text = rendered(template.source, fields) if template.source else pl.col("body")
    return normalised(text).alias("group")


def rendered(text: str, fields: Mapping[str, pl.Expr]) -> pl.Expr:
    """A template's part; ``[…]`` is left out where a field in it is empty or absent."""
    written = []
    for piece in pieces(text):
        if not piece.optional:
            written.append(_filled(piece.text, fields))
        elif all(name in fields for name in piece.fields):
            there = [fields[name].fill_null("") != "" for name in piece.fields]
            filled = _filled(piece.text, fields)
            written.append(pl.when(pl.all_horizontal(there)).then(filled).otherwise(NOTHING))
    return pl.concat_str(written) if written else NOTHING


def _filled(text: str, fields: Mapping[str, pl.Expr]) -> pl.Expr:
    parts = _FIELD.split(text)  # text, field, text, field, …, text
    written = [
        fields[part] if place % 2 else pl.lit(part)
        for place, part in enumerate(parts)
        if place % 2 or part
    ]
    return pl.concat_str(written) if written else NOTHING


def _history(template: Template, between: str) -> pl.Expr:
    """The last exchanges, one after the other, or, with something ``between`` them, how many
    characters each has; "" where there are none."""
    turn = {name: pl.element().struct.field(name) for name in ("question", "answer")}
    said = rendered(template.turn, turn)
    if between:
        said = said.str.len_chars().cast(pl.String)
    kept = pl.col("history").list.tail(template.turns)
    return kept.list.eval(said).list.join(between).fill_null("")


def _by_pattern(frame: pl.DataFrame, template: Template) -> pl.DataFrame:
    """A ready-made prompt cut by the template's pattern; all body where it does not match."""
    context = pl.col("context")
    # On its own, so that the expression is matched once and not once a part.
    found = frame.select(context.str.extract_groups(f"^(?:{template.pattern})$"))
    parts = found.to_series().struct.unnest().select("head", "body", "cue")
    other = {"head": NOTHING, "body": context, "cue": NOTHING}
    missed = pl.col("body").is_null()
    return frame.hstack(parts).with_columns(
        NOTHING.alias("turns"),
        *(pl.when(missed).then(other[name]).otherwise(pl.col(name)).alias(name) for name in other),
    )
