"""Raw rows → facts: everything about a set that can be said before it is split.

`glmops check` ends here; the stage goes on with the split.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.prepare.duplicates import related, repeats
from glmops.prepare.gate import suites
from glmops.prepare.gate.answers import Vocabulary
from glmops.prepare.gate.facts import facts_of
from glmops.prepare.gate.refusals import gate_refusals
from glmops.prepare.gate.validation import Broken, Gate
from glmops.prepare.looks import SourceSeen, Tell, looking
from glmops.prepare.spool import Spool, ahead
from glmops.recipe import Prepare
from glmops.records import TASKS, Task

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Raw:
    """A whole set as read: texts on disk, facts and refusals in memory."""

    spool: Spool
    facts: pl.DataFrame
    refusals: pl.DataFrame
    """file, line, reason, raw."""
    sources: list[SourceSeen]
    vocabulary: Vocabulary
    columns: tuple[str, ...]
    """The columns of the row frames."""

    @property
    def read(self) -> int:
        return sum(source.read for source in self.sources)

    @property
    def oddities(self) -> dict[str, int]:
        """What is strange in the accepted rows of all sources; see ``facts.oddities``."""
        total: Counter[str] = Counter()
        for source in self.sources:
            total.update(source.oddities)
        return dict(sorted(total.items()))

    @property
    def longest(self) -> dict[str, int]:
        """Field → the most characters that a row of any source has in it."""
        fields = {name for source in self.sources for name in source.longest}
        return {name: max(s.longest.get(name, 0) for s in self.sources) for name in fields}

    @property
    def tasks(self) -> list[Task]:
        """The tasks that occur among the rows."""
        found = set(self.facts["task"].unique())
        return [task for task in TASKS if task in found]


def read_all(
    path: Path,
    section: Prepare,
    scratch: Path,
    *,
    root: Path | None,
    answers: bool = True,
    tell: Tell = lambda step: None,
) -> Raw:
    """Read every source of a recipe, batch by batch.

    Args:
        scratch: An empty folder for the texts; they take about as much room as the raw rows.
        answers: False: rows of a file without answers are read with an empty target.
    Raises:
        InputError: A path or a whole file cannot be used.
    """
    import polars as pl

    from glmops.prepare.frames import REFUSALS
    from glmops.prepare.rows import read_rows

    spool, vocabulary = Spool(scratch), Vocabulary()
    facts: list[pl.DataFrame] = []
    refusals = [pl.DataFrame(schema=REFUSALS)]
    sources: list[SourceSeen] = []
    columns: set[str] = set()
    for index, source in enumerate(section.all_sources):
        with looking(tell) as looks:
            sources.append(looks.seen)
            batches = read_rows(
                path, source, index=index, root=root, on_file=looks.at_file, answers=answers
            )
            for batch in ahead(batches):
                looks.at_batch(batch)
                columns.update(batch.rows.columns)
                if batch.rows.height:
                    spool.add(batch.rows.with_columns(batch.raw["raw"]))
                    facts.append(facts_of(batch.rows, section, source, vocabulary, answers=answers))
                refusals.append(batch.refusals)
    whole = pl.concat(facts) if facts else _no_facts(section, vocabulary)
    return Raw(
        spool,
        whole.with_row_index("row"),
        pl.concat(refusals),
        sources,
        vocabulary,
        tuple(sorted(columns)),
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate said about every row."""

    raw: Raw
    facts: pl.DataFrame
    """Of all rows that were read, with ``rows_of_id`` and ``labels_of_text``."""
    refused: pl.DataFrame
    """row, file, line, reason, raw: of the rows that break a rule."""

    @property
    def refusals(self) -> pl.DataFrame:
        """file, line, reason, raw: of the reader and of the gate, by file and line."""
        return sorted_refusals([self.raw.refusals, self.refused.drop("row")])


def judge(raw: Raw, section: Prepare, gate: Gate, where: str) -> Judged:
    """Pass all rows through the gate.

    Raises:
        InputError: The set as a whole cannot be used.
        GlmopsError: A rule could not be evaluated.
    """
    import polars as pl

    from glmops.prepare.frames import ROWS

    names = pl.DataFrame(schema=dict.fromkeys(raw.columns, pl.Int8))
    if raw.columns:
        gate.require([suites.columns(list(ROWS))], names, where)
    facts = related(raw.facts)
    broken: list[Broken] = []
    # Of no rows every rule holds; that none are left is for `settle` to say.
    for suite in suites.suites(section, raw.tasks) if facts.height else ():
        if suite.of_rows:
            broken += gate.broken(suite, facts)
        else:
            gate.require([suite], facts, where)
    return Judged(raw, facts, gate_refusals(raw.spool, facts, broken))


@dataclass(frozen=True, slots=True)
class Settled:
    """The rows that are left: ``facts`` of each different one, and the numbers of the repeats."""

    facts: pl.DataFrame
    repeats: Any
    """Row numbers of accepted rows with the prompt and target of an earlier one (numpy)."""


def settle(judged: Judged, section: Prepare, gate: Gate, where: str) -> Settled:
    """Leave the refused rows out, and exact repeats; what is left must be worth learning.

    Where sources have sides of their own, a repeat may be a leak: the sides decide then.

    Raises:
        InputError: No row is left, or none that a model could learn something from.
    """
    left = _accepted(judged)
    gate.require(suites.left(section.tasks), left, where)
    if any(source.side is not None for source in section.all_sources):
        return Settled(left, left["row"].to_numpy()[:0])
    return left_over(judged)


def left_over(judged: Judged) -> Settled:
    """What ``settle`` gives, whatever is left."""
    left = _accepted(judged)
    again = repeats(left)
    return Settled(left.filter(~again), left["row"].filter(again).to_numpy())


def _accepted(judged: Judged) -> pl.DataFrame:
    import polars as pl

    return judged.facts.filter(~pl.col("row").is_in(judged.refused["row"].implode()))


def sorted_refusals(frames: list[pl.DataFrame]) -> pl.DataFrame:
    import polars as pl

    return pl.concat(frames).sort("file", "line", maintain_order=True)


def _no_facts(section: Prepare, vocabulary: Vocabulary) -> pl.DataFrame:
    """The facts of no rows, with all their columns."""
    import polars as pl

    from glmops.prepare.frames import ROWS

    nothing = pl.DataFrame(schema=ROWS)
    return facts_of(nothing, section, section.all_sources[0], vocabulary)
