"""Answers that somebody else's program wrote: files of any common shape, as rows with a place.

A file is JSON Lines of objects (LLaMA-Factory's and the official ``generated_predictions`` are), or
of strings; one JSON document with a list of either; or text with one answer a line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from glmops.errors import InputError
from glmops.evaluate.reading import FENCE

PREDICTION = ("predict", "prediction", "predictions", "predicted", "generated", "generated_text")
REFERENCE = ("reference", "references", "target", "labels", "label", "expected", "gold", "summary")
EITHER = ("answer", "output", "response", "text")
"""Names that either side uses: in one file with both, such a field is taken for the prediction."""
NAMES: dict[str, tuple[str, ...]] = {
    "prediction": (*PREDICTION, *EITHER),
    "reference": (*REFERENCE, *EITHER),
    "id": ("id", "uuid", "_id", "ID"),
    "prompt": ("prompt", "content", "input", "question"),
    "task": ("task",),
}
"""Role → the names under which its field is found, unless `--field` names it."""


class Row(NamedTuple):
    """One row of a file. ``fields`` of a bare text has the one field ""."""

    where: str
    fields: Mapping[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The rows of ``path`` in order.

    Raises:
        InputError: No such file, not UTF-8, no rows, or a line that is not like the first.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(path, "no such file", do="Give a file of answers.") from None
    except UnicodeDecodeError as error:
        fault = f"not UTF-8 ({error.reason} at byte {error.start})"
        raise InputError(path, fault, do="Convert the file to UTF-8.") from None
    if not text.strip():
        raise InputError(path, "the file holds no rows", do="Give a file of answers.")
    lines = text.rstrip().split("\n")
    first = _value(lines[0])
    if not isinstance(first, dict | str) or path.suffix == ".json":
        whole = _listed(_value(text))
        if whole is not None:
            return [_row(f"{path}[{place}]", value) for place, value in enumerate(whole)]
    if not isinstance(first, dict | str) and path.suffix == ".txt":
        plain = text.removesuffix("\n").split("\n")
        return [
            Row(f"{path}:{number}", {"": line.removesuffix("\r")})
            for number, line in enumerate(plain, 1)
        ]
    return [_line(f"{path}:{number}", line) for number, line in enumerate(lines, 1)]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _listed(value: Any) -> list[Any] | None:
    """A list of rows, or the only list of objects in a document."""
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        return lists[0] if len(lists) == 1 else None
    return value if isinstance(value, list) and value else None


def _line(where: str, line: str) -> Row:
    value = _value(line)
    if value is None:
        raise InputError(
            where,
            "expected one JSON object or string a line",
            got=line,
            do="Repair the line, or give a .txt with one answer a line.",
        )
    return _row(where, value)


def _row(where: str, value: Any) -> Row:
    if isinstance(value, str):
        return Row(where, {"": value})
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise InputError(where, "expected an object or a string", got=kind, do="Repair the row.")
    return Row(where, value)


def field_of(
    rows: Sequence[Row], role: str, given: Mapping[str, str], taken: str | None = None
) -> str | None:
    """The name of the field that holds ``role``, or None where there is none of that kind.

    Args:
        given: Role → name, as the user says.
        taken: A field that is another role's.
    Raises:
        InputError: The named field is absent, or several fields could be meant.
    """
    first = rows[0]
    if role in given:
        if given[role] not in first.fields:
            known = ", ".join(sorted(first.fields))
            do = f"Its fields are: {known}."
            raise InputError(first.where, f"no field for the {role}", got=given[role], do=do)
        return given[role]
    if "" in first.fields:
        return "" if role in ("prediction", "reference") else None
    found = [name for name in NAMES[role] if name in first.fields and name != taken]
    clear = [name for name in found if name not in EITHER]
    if len(clear or found) > 1 and role in ("prediction", "reference"):
        raise InputError(
            first.where,
            f"several fields could be the {role}",
            got=", ".join(clear or found),
            do=f"Say which: --field {role}=NAME.",
        )
    return next(iter(clear or found), None)


def text_of(row: Row, field: str, task: str, role: str) -> str:
    """What the field holds, written as an answer of ``task``; a null prediction is an empty one.

    Raises:
        InputError: The row has no such field, or it holds nothing that is an answer.
    """
    if field not in row.fields:
        do = "Repair the row."
        raise InputError(row.where, f"the row has no {role} field", got=field or "no text", do=do)
    value = row.fields[field]
    if isinstance(value, str):
        return value
    if value is None and role == "prediction":
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list):
        if task == "triples":
            return f"{FENCE}json\n{json.dumps(value, ensure_ascii=False)}\n{FENCE}"
        if task == "classification":
            return json.dumps(value, ensure_ascii=False)
        if task == "keywords" and all(isinstance(item, str) for item in value):
            return ", ".join(value)
    raise InputError(
        row.where, f"the {role} is no text", got=repr(value), do="Give an answer as text."
    )
