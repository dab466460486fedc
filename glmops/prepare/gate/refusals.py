"""Refused rows, named: which rule each broke, in words, with its raw text."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from glmops.prepare.gate.answers import require_whole
from glmops.prepare.gate.facts import CONTROL, PLACEHOLDER
from glmops.prepare.gate.validation import Broken
from glmops.prepare.near import Pair
from glmops.prepare.spool import Spool
from glmops.prepare.targets import BadRow
from glmops.records import SPLITS

if TYPE_CHECKING:
    import polars as pl

_COLUMNS = (
    *("id", "task", "template", "head", "body", "cue", "target", "group", "file", "line", "raw"),
)
_SHOWN = 80

Row = Mapping[str, Any]
Leaks = Mapping[int, tuple[int, float | None]]
"""Row → the row of the same or a nearly equal text, and their similarity (None: the same)."""


def gate_refusals(spool: Spool, facts: pl.DataFrame, broken: Sequence[Broken]) -> pl.DataFrame:
    """A refusal frame (with the column ``row``) of all rows that break a rule of the gate.

    Args:
        facts: The facts of all rows, in their order.
        broken: What the gate found; ``rows`` are places in ``facts``.
    """
    rules: dict[int, list[Broken]] = defaultdict(list)
    for rule in broken:
        for row in rule.rows:
            rules[int(row)].append(rule)
    rows = spool.at(_COLUMNS, rules)
    alike = {
        "labels_of_text": _by(rows, "head", "group", "cue"),
        "rows_of_id": _by(rows, "id"),
    }
    reasons = {}
    for number, row in rows.items():
        counts = facts.row(number, named=True)
        reasons[number] = "; ".join(_reason(rule, row, counts, alike) for rule in rules[number])
    return _frame(rows, reasons)


def leak_refusals(
    spool: Spool,
    facts: pl.DataFrame,
    gone: Leaks,
) -> pl.DataFrame:
    """A refusal frame of the rows whose text is on another side already.

    Args:
        facts: With the columns ``row`` and ``side``.
    """
    import polars as pl

    rows = spool.at(_COLUMNS, [*gone, *(partner for partner, _ in gone.values())])
    named = facts.select("row", "side").filter(
        facts["row"].is_in(pl.Series(list(rows), dtype=pl.UInt32).implode())
    )
    sides = dict(named.iter_rows())
    reasons = {}
    for number, (partner, alike) in gone.items():
        other = rows[partner]
        same = "the same text" if alike is None else f"a text alike by {alike:.2f}"
        reasons[number] = (
            f"leak: this row belongs to {SPLITS[sides[number]]}, and {same} is in "
            f"{SPLITS[sides[partner]]} ({other['file']}:{other['line']})"
        )
    return _frame({number: rows[number] for number in sorted(gone)}, reasons)


def rows_of_texts(facts: pl.DataFrame, texts: Any, gone: Mapping[int, Pair]) -> Leaks:
    """All rows of some texts, with the texts that they are nearly equal to.

    Args:
        texts: Text number → its first row.
    """
    import polars as pl

    if not gone:
        return {}
    named = pl.DataFrame(
        {
            "row": [int(texts[number]) for number in gone],
            "partner": [int(texts[pair.first]) for pair in gone.values()],
            "alike": [pair.similarity for pair in gone.values()],
        },
        schema={"row": pl.UInt32, "partner": pl.UInt32, "alike": pl.Float64},
    )
    text = facts.select("row", "text")
    named = named.join(text, on="row").drop("row")
    found = text.join(named, on="text").sort("row").select("row", "partner", "alike")
    return {row: (partner, alike) for row, partner, alike in found.iter_rows()}


def _frame(rows: Mapping[int, Row], reasons: Mapping[int, str]) -> pl.DataFrame:
    import polars as pl

    schema = {
        "row": pl.UInt32,
        "file": pl.String,
        "line": pl.Int64,
        "reason": pl.String,
        "raw": pl.String,
    }
    return pl.DataFrame(
        [
            (number, row["file"], row["line"], reasons[number], row["raw"])
            for number, row in rows.items()
        ],
        schema=schema,
        orient="row",
    )


def _by(rows: Mapping[int, Row], *columns: str) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows.values():
        found[tuple(row[column] for column in columns)].append(row)
    return found


def _reason(
    rule: Broken,
    row: Row,
    counts: Row,
    alike: Mapping[str, Mapping[tuple[Any, ...], Sequence[Row]]],
) -> str:
    detail = ""
    if rule.fact == "labels_of_text":
        detail = _others(row, alike[rule.fact][row["head"], row["group"], row["cue"]])
    elif rule.fact == "rows_of_id":
        detail = _others(row, alike[rule.fact][(row["id"],)])
    elif rule.fact in _DETAILS:
        detail = _DETAILS[rule.fact](row)
    elif rule.fact.endswith("_characters"):
        detail = _length(counts[rule.fact], rule.meta["fewest"], rule.meta["most"])
    said = {name: _short(value) for name, value in row.items() if isinstance(value, str)}
    numbers = {name: value for name, value in counts.items() if name not in row}
    text: str = rule.meta["reason"]
    return text.format(**said, **numbers, detail=detail)


def _others(row: Row, alike: Sequence[Row]) -> str:
    """Where the rows are that this one disagrees with, the first few of each answer."""
    answers: dict[str, Row] = {}
    for each in alike:
        answers.setdefault(each["target"], each)
    places = [
        f"{_short(target)!r} at {each['file']}:{each['line']}"
        for target, each in answers.items()
        if target != row["target"]
    ]
    here = f": {_short(row['target'])!r} here"
    return f"{here}, {', '.join(places[:3])}" if places else ""


def _length(characters: int, fewest: int, most: int) -> str:
    if characters > most:
        return f"longer than {most} characters, got {characters}"
    return f"shorter than {fewest} characters, got {characters}"


def _control(row: Row) -> str:
    pattern = re.compile(CONTROL.replace(r"\x{9f}", r"\x9f"))
    for name in ("head", "body", "cue", "target"):
        if found := pattern.search(row[name]):
            place = f"U+{ord(found[0]):04X} at character {found.start() + 1}"
            return f"the control character {place} of its {name}"
    raise AssertionError("a row without a control character was refused for one")


def _placeholder(row: Row) -> str:
    pattern = re.compile(PLACEHOLDER.replace("(?-u:", "(?a:"))
    for name in ("head", "body", "cue", "target"):
        if found := pattern.search(row[name]):
            return repr(found[0])
    raise AssertionError("a row without a placeholder was refused for one")


def _broken_answer(row: Row) -> str:
    try:
        require_whole(row["template"], row["task"], row["target"])
    except BadRow as bad:
        return str(bad)
    raise AssertionError("a row with a whole answer was refused for a broken one")


_DETAILS: dict[str, Callable[[Row], str]] = {
    "control_character": _control,
    "placeholder": _placeholder,
    "broken_answer": _broken_answer,
}


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
