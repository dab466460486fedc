"""What only the texts can say, in one pass over them: scripts, answers, templates, examples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glmops.prepare.card.scripts import CLASSES, LETTERS, NONE, count_scripts, named
from glmops.prepare.split import places_of
from glmops.prepare.spool import Spool, ahead
from glmops.templates import TEMPLATES

if TYPE_CHECKING:
    import polars as pl

EXAMPLES = 5
MOST_GIVEN = 3
_COLUMNS = ("id", "task", "template", "body", "target")


@dataclass(frozen=True, slots=True)
class Texts:
    """Counts over all rows, and the numbers of rows to show."""

    characters: dict[str, dict[str, int]]
    """``text`` and ``answer`` → class of CLASSES → characters."""
    main_scripts: dict[str, int]
    """Main script of the text → rows."""
    templates: dict[str, dict[str, Any]]
    """Name → its hash and rows."""
    different_answers: int
    answers: list[tuple[int, int]]
    """The most frequent answers: (a row that has it, rows)."""
    examples: list[int]


def texts_of(spool: Spool, facts: pl.DataFrame, chosen: Any = None) -> Texts:
    """One pass over the rows of ``facts``, a batch at a time.

    Args:
        chosen: Of which of the rows examples may be (numpy, bool); None: of all.
    """
    import numpy as np
    import polars as pl

    texts = np.zeros(len(CLASSES), np.int64)
    answers = np.zeros(len(CLASSES), np.int64)
    mains = np.zeros(len(LETTERS) + 1, np.int64)
    templates: Counter[str] = Counter()
    given: list[pl.DataFrame] = []
    drawn: list[pl.DataFrame] = []
    start = 0
    for batch in ahead(spool.read(_COLUMNS, facts["row"].to_numpy())):
        counts, main = count_scripts(_own_text(batch))
        texts, mains = texts + counts, mains + main
        answers = answers + count_scripts(batch["target"])[0]
        templates.update(dict(batch.group_by("template").len().iter_rows()))
        given.append(_counted_answers(batch))
        here = slice(start, start + batch.height)
        some = batch if chosen is None else batch.filter(pl.Series(chosen[here]))
        drawn.append(_drawn(some.with_columns(place=places_of(some["id"], "card"))))
        start += batch.height
    different, most = _most_given(given)
    return Texts(
        characters={"text": named(texts, CLASSES), "answer": named(answers, CLASSES)},
        main_scripts=named(mains, (*LETTERS, NONE)),
        templates={
            name: {"hash": TEMPLATES[name].hash(), "rows": rows}
            for name, rows in sorted(templates.items())
        },
        different_answers=different,
        answers=most,
        examples=_examples(pl.concat(drawn)) if drawn else [],
    )


def _own_text(batch: pl.DataFrame) -> Any:
    """The text that a row is about, without the words of the template; else its answer."""
    import polars as pl

    text = pl.when(pl.col("body") == "").then("target").otherwise("body")
    return batch.select(text.alias("text")).to_series()


def _counted_answers(batch: pl.DataFrame) -> pl.DataFrame:
    """Rows, and the first one, of each different answer, which is known by its hash."""
    import polars as pl

    hashed = batch.select("row", pl.col("target").hash().alias("answer"))
    return hashed.group_by("answer").agg(pl.len().alias("rows"), pl.col("row").min())


def _most_given(given: list[pl.DataFrame]) -> tuple[int, list[tuple[int, int]]]:
    import polars as pl

    if not given:
        return 0, []
    both = pl.col("rows").sum(), pl.col("row").min()
    counted = pl.concat(given).group_by("answer").agg(*both)
    first = counted.filter(pl.col("rows") > 1).sort("rows", "row", descending=[True, False])
    return counted.height, list(first.head(MOST_GIVEN).select("row", "rows").iter_rows())


def _drawn(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each template and task, the few rows whose ids have the smallest hashes."""
    kind = ("template", "task")
    sorted_rows = rows.select("row", "place", *kind).sort("place", "row")
    return sorted_rows.group_by(*kind, maintain_order=True).head(EXAMPLES)


def _examples(drawn: pl.DataFrame) -> list[int]:
    """One row of each template and task, then a second one of each, until there are enough."""
    import polars as pl

    few = _drawn(drawn).sort("template", "task", "place", "row")
    few = few.with_columns(turn=pl.int_range(pl.len()).over("template", "task"))
    rows: list[int] = few.sort("turn", maintain_order=True)["row"].head(EXAMPLES).to_list()
    return rows
