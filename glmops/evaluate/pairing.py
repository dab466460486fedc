"""Predictions and references of two files, or of one, brought together row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from glmops.errors import InputError, RecipeError
from glmops.evaluate.files import NAMES, Row, field_of, read_rows, text_of


class Paired(NamedTuple):
    """Rows of one task, in the order of the references. ``notes`` say what a reader must know."""

    predictions: list[str]
    references: list[str]
    names: list[str]
    prompts: list[str] | None
    notes: list[str]


def pair_files(
    task: str, predictions: Path, references: Path | None, fields: Mapping[str, str]
) -> Paired:
    """Read and pair; without ``references`` one file holds both.

    Where both sides have ids, rows meet by id, in whatever order; else by place.

    Args:
        fields: Role (a key of `NAMES`) → field name, where it is not one of the usual names.
    Raises:
        InputError: A file cannot be read, a field is missing or could be several, an id occurs
            twice or on one side only, or the sides differ in length.
        RecipeError: An unknown role.
    """
    for role in set(fields) - set(NAMES):
        do = f"Known: {', '.join(NAMES)}."
        raise RecipeError("glmops score --field", "unknown role", got=role, do=do)
    notes: list[str] = []
    answered = _of_task(read_rows(predictions), task, fields, notes)
    said = _required(answered, "prediction", fields)
    if references is None:
        expected, true = answered, _required(answered, "reference", fields, said)
        _places(expected, field_of(expected, "id", fields))
    else:
        expected = _of_task(read_rows(references), task, fields, notes)
        true = _required(expected, "reference", fields)
        answered = _aligned(answered, expected, fields, notes)
    prompt = field_of(expected, "prompt", _in(expected, fields), true)
    return Paired(
        [text_of(row, said, task, "prediction") for row in answered],
        [text_of(row, true, task, "reference") for row in expected],
        [row.where for row in expected],
        [_prompt(row, prompt) for row in expected] if prompt else None,
        notes,
    )


def _in(rows: Sequence[Row], fields: Mapping[str, str]) -> dict[str, str]:
    return {role: name for role, name in fields.items() if name in rows[0].fields}


def _required(
    rows: Sequence[Row], role: str, fields: Mapping[str, str], taken: str | None = None
) -> str:
    field = field_of(rows, role, fields, taken)
    if field is None or field == taken:
        others = [name for name in rows[0].fields if name not in NAMES["id"]]
        if taken is None and len(others) == 1:
            return others[0]
        raise InputError(
            rows[0].where,
            f"no field that is the {role}",
            got=", ".join(rows[0].fields) or "a bare text",
            do=f"Say which: --field {role}=NAME, or give a file of each.",
        )
    return field


def _of_task(rows: list[Row], task: str, fields: Mapping[str, str], notes: list[str]) -> list[Row]:
    """The rows of ``task``, where rows name theirs."""
    field = field_of(rows, "task", _in(rows, fields))
    if field is None:
        return rows
    mine = [row for row in rows if row.fields.get(field) == task]
    if not mine:
        found = ", ".join(sorted({str(row.fields.get(field)) for row in rows}))
        raise InputError(
            rows[0].where, f"no row of the task {task}", got=found, do="Name its task."
        )
    if len(mine) < len(rows):
        notes.append(f"{len(rows) - len(mine)} rows of other tasks are left out")
    return mine


def _aligned(
    answered: list[Row], expected: list[Row], fields: Mapping[str, str], notes: list[str]
) -> list[Row]:
    """The answers in the order of the references."""
    ids = [field_of(rows, "id", _in(rows, fields)) for rows in (answered, expected)]
    mine, theirs = (_places(rows, id_) for rows, id_ in zip((answered, expected), ids, strict=True))
    if mine is None or theirs is None:
        if len(answered) != len(expected):
            raise InputError(
                answered[0].where.rpartition(":")[0] or answered[0].where,
                "expected as many predictions as references",
                got=f"{len(answered)} and {len(expected)}",
                do="Give one prediction per reference, or an id on both sides.",
            )
        if len(answered) > 1:
            notes.append("the rows have no id on both sides: they are paired by their order")
        return answered
    for name, here, there in (("prediction", mine, theirs), ("reference", theirs, mine)):
        lacking = [id_ for id_ in there if id_ not in here]
        if lacking:
            row = (expected if name == "prediction" else answered)[there[lacking[0]]]
            raise InputError(
                row.where,
                f"{len(lacking)} ids have no {name}",
                got=lacking[0],
                do="Give one prediction per reference.",
            )
    if list(mine) != list(theirs):
        notes.append("the files differ in order: their rows are paired by id")
    return [answered[mine[id_]] for id_ in theirs]


def _places(rows: Iterable[Row], field: str | None) -> dict[str, int] | None:
    """Id → place; None where rows have no id."""
    if field is None:
        return None
    places: dict[str, int] = {}
    seen: dict[str, str] = {}
    for place, row in enumerate(rows):
        id_ = row.fields.get(field)
        if isinstance(id_, bool) or not isinstance(id_, str | int) or id_ == "":
            raise InputError(
                row.where, "the row has no id", got=repr(id_), do="Give every row one."
            )
        if str(id_) in places:
            do = f"It is the id of {seen[str(id_)]} too: which is meant would be a guess."
            raise InputError(row.where, "the id occurs twice", got=str(id_), do=do)
        places[str(id_)], seen[str(id_)] = place, row.where
    return places


def _prompt(row: Row, field: str) -> str:
    value = row.fields.get(field)
    return value if isinstance(value, str) else ""
