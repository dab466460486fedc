"""What one JSON value of a row must be: an object of text, with a history, or a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from glmops.prepare.formats import Layout
from glmops.prepare.frames import (
    HISTORY,
    REFUSALS,
    fields_schema,
    require_text,
    split_off,
    without_controls,
)
from glmops.prepare.targets import BadRow, parse_json, shape

Fields = dict[str, Any]
"""Field → text; ``history`` → list of {question, answer}; ``repair`` → what was mended."""
Unpack = Callable[[object], Fields]

_ROLES = ("user", "assistant")


def unpack_for(layout: Layout, columns: Mapping[str, str | int]) -> Unpack:
    """The function that turns one JSON value into the fields of a format.

    Args:
        columns: For a table: field → key.
    """
    if layout.kind == "turns":
        return unpack_turns
    if layout.kind == "table":
        return lambda value: unpack_mapped(value, columns)
    return lambda value: unpack_object(value, layout)


def unpack_object(value: object, layout: Layout) -> Fields:
    """An object that has the format's keys and no others, each with text.

    Raises:
        BadRow: It is anything else.
    """
    row = _object(value)
    known = (*layout.fields, "history") if layout.history else layout.fields
    missing = [name for name in layout.required if name not in row]
    if missing or any(name not in known for name in row):
        raise BadRow(_other_keys(row, layout))
    fields: Fields = {name: _text(row, name, layout) for name in layout.fields}
    if layout.history:
        fields |= _history(row.get("history"))
    return fields


def unpack_turns(value: object) -> Fields:
    """``{"conversations" or "messages": [{"role", "content"}, …]}``, ending with the answer.

    The last question is the instruction, with the system's text in front of it; earlier exchanges
    are the history.
    """
    row = _object(value)
    if len(row) != 1 or not row.keys() <= {"conversations", "messages"}:
        raise BadRow(f"expected the one key 'conversations' or 'messages', got {_named(row)}")
    ((key, turns),) = row.items()
    if not isinstance(turns, list) or not turns:
        raise BadRow(f"{key!r} is {shape(turns) if turns else 'empty'}, not a list of turns")
    said = [_turn(turn, key, place) for place, turn in enumerate(turns, start=1)]
    system = said.pop(0)[1] + "\n" if said[0][0] == "system" else ""
    for place, (role, _) in enumerate(said):
        if role != _ROLES[place % 2]:
            raise BadRow(f"{key!r}: {role!r} speaks where {_ROLES[place % 2]!r} should")
    if not said or len(said) % 2:
        raise BadRow(f"{key!r} does not end with an answer of 'assistant'")
    texts = [text for _, text in said]
    pairs = [{"question": q, "answer": a} for q, a in zip(texts[::2], texts[1::2], strict=True)]
    last = pairs.pop()
    return {
        "instruction": system + last["question"],
        "input": None,
        "output": last["answer"],
        "history": pairs,
        "repair": None,
    }


def unpack_mapped(value: object, columns: Mapping[str, str | int]) -> Fields:
    """The mapped keys of an object, text or whole numbers; other keys are not looked at.

    Only ``history`` is a list, of ``[question, answer]`` pairs, or null where there is none.
    """
    row = _object(value)
    fields: Fields = {}
    for field, key in columns.items():
        if key not in row:
            raise BadRow(f"there is no key {key!r}, only {_named(row)}")
        if field == "history":
            fields |= _history(row[str(key)])
            continue
        cell = row[str(key)]
        if isinstance(cell, int) and not isinstance(cell, bool):
            cell = str(cell)
        if not isinstance(cell, str):
            raise BadRow(f"{key!r} is {shape(cell)}, not text")
        require_text(str(key), cell)
        fields[field] = cell
    return fields


def frame_of(
    values: Sequence[tuple[int, str, object]], unpack: Unpack, layout: Layout, file: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A raw frame of decoded values, and a refusal for each that the format does not allow.

    Args:
        values: Line, raw text and value of each row; a BadRow in place of the value is its reason.
    """
    if (frame := _flat_frame(values, layout, file)) is not None:
        return without_controls(frame, layout.fields)
    good: list[Fields] = []
    refused: list[tuple[str, int, str, str]] = []
    for line, raw, value in values:
        try:
            if isinstance(value, BadRow):
                raise value
            fields = unpack(value)
        except BadRow as bad:
            refused.append((file, line, str(bad), raw))
        else:
            good.append({"file": file, "line": line, "raw": raw, **fields})
    schema = fields_schema(layout.fields, history=layout.history)
    columns = {name: [row.get(name) for row in good] for name in schema}
    return pl.DataFrame(columns, schema=schema), pl.DataFrame(
        refused, schema=REFUSALS, orient="row"
    )


def _flat_frame(
    values: Sequence[tuple[int, str, object]], layout: Layout, file: str
) -> pl.DataFrame | None:
    """The raw frame of values that all are what the format asks for; None if one is not.

    The same frame as one value after the other would give, without a call for each.
    """
    if layout.kind != "objects" or not values:
        return None
    required, known = set(layout.required), set(layout.fields)
    rows = [value for _, _, value in values if isinstance(value, dict)]
    if len(rows) < len(values) or not all(required <= row.keys() <= known for row in rows):
        return None
    columns: dict[str, Any] = {name: [row.get(name) for row in rows] for name in layout.fields}
    for name, texts in columns.items():
        if not set(map(type, texts)) <= ({str, type(None)} if name in layout.optional else {str}):
            return None
    lines, raws, _ = zip(*values, strict=True)
    columns |= {"file": [file] * len(rows), "line": lines, "raw": raws}
    columns |= dict.fromkeys(("repair", "history"), [None] * len(rows))
    schema = fields_schema(layout.fields, history=layout.history)
    try:
        return pl.DataFrame({name: columns[name] for name in schema}, schema=schema)
    except UnicodeEncodeError:  # half a character
        return None


def read_histories(
    frames: tuple[pl.DataFrame, pl.DataFrame],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A raw frame whose ``history`` is text: JSON, or nothing where there is none. And refusals,
    to which those of the rows whose history is anything else are added."""
    frame, refused = frames
    read: list[object] = []
    reasons: list[str | None] = []
    for text in frame["history"]:
        try:
            value = parse_json(text, "the history") if (text or "").strip() else None
            read.append(_history(value)["history"])
            reasons.append(None)
        except BadRow as bad:
            read.append(None)
            reasons.append(str(bad))
    frame = frame.with_columns(pl.Series("history", read, dtype=HISTORY))
    frame, odd = split_off(frame, pl.lit(pl.Series(reasons, dtype=pl.String)))
    return frame, pl.concat([refused, odd]).sort("line")


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRow(f"the row is {shape(value)}, not an object")
    return value


def _text(row: Mapping[str, Any], name: str, layout: Layout) -> str | None:
    value = row.get(name)
    if value is None and name in layout.optional:
        return None
    if not isinstance(value, str):
        raise BadRow(f"{name!r} is {shape(value)}, not text")
    require_text(name, value)
    return value


def _history(value: object) -> Fields:
    """A history as pairs. An empty text in its place says nothing, so it is read as none."""
    if value is None:
        return {"history": None, "repair": None}
    if value == "":
        return {"history": None, "repair": "an empty text as 'history' is read as no history"}
    if not isinstance(value, list):
        raise BadRow(f"'history' is {shape(value)}, not a list of [question, answer] pairs")
    pairs = [_pair(pair, place) for place, pair in enumerate(value, start=1)]
    return {"history": pairs, "repair": None}


def _pair(pair: object, place: int) -> dict[str, str]:
    if not isinstance(pair, list) or len(pair) != 2:
        found = f"a list of {len(pair)}" if isinstance(pair, list) else shape(pair)
        raise BadRow(f"'history': item {place} is {found}, not a [question, answer] pair")
    for text in pair:
        if not isinstance(text, str) or not text.strip():
            raise BadRow(f"'history': item {place} holds {shape(text)} in place of a text")
        require_text("history", text)
    return {"question": pair[0], "answer": pair[1]}


def _turn(turn: object, key: str, place: int) -> tuple[str, str]:
    if not isinstance(turn, dict) or turn.keys() != {"role", "content"}:
        found = _named(turn) if isinstance(turn, dict) else shape(turn)
        raise BadRow(f"{key!r}: turn {place} must have 'role' and 'content', got {found}")
    role, content = turn["role"], turn["content"]
    if role not in (*_ROLES, "system") or (role == "system" and place > 1):
        raise BadRow(f"{key!r}: the role of turn {place} is {role!r}, not user or assistant")
    if not isinstance(content, str) or not content.strip():
        raise BadRow(f"{key!r}: turn {place} is {shape(content)}, not text")
    require_text(key, content)
    return role, content


def _other_keys(row: Mapping[str, Any], layout: Layout) -> str:
    """Which keys were found, and, where all are strange, how to map them."""
    wanted = " and ".join(map(repr, layout.required))
    reason = f"expected the keys {wanted}, got {_named(row)}"
    if row and not row.keys() & set(layout.fields):
        pairs = zip(layout.required, row, strict=False)
        mapping = ", ".join(f"{field}: {key[:30]}" for field, key in pairs)
        reason += f" (other names are read with format table and columns {{{mapping}}})"
    return reason


def _named(row: Mapping[str, Any]) -> str:
    return ", ".join(repr(key[:30]) for key in list(row)[:6]) or "none"
