"""prepare: raw rows → validated records on their side of the split, quarantine and metrics."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmops.errors import InputError
from glmops.prepare.files import hash_of, raw_files, shown
from glmops.prepare.formats import read
from glmops.prepare.split import split
from glmops.prepare.targets import labels_in
from glmops.recipe import MaxRefused, Prepare
from glmops.records import SPLITS, Record, Refusal, Split, write_table

NAMED_REFUSALS = 5


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the stage writes: the records of each split, what was refused, and the counts."""

    splits: dict[Split, list[Record]]
    quarantine: list[Refusal]
    metrics: dict[str, Any]


def prepare(
    raw: Path,
    section: Prepare,
    *,
    root: Path,
    quarantine: Path,
    tell: Callable[[str], None] = lambda step: None,
) -> Prepared:
    """Read, drop exact repeats, pass the gate, split by source text.

    Args:
        raw: A file or folder of raw rows in the section's format.
        root: The project; files below it are named relative to it.
        quarantine: Where the refused rows go when there are too many of them to go on.
        tell: Called with each step's name before it starts.
    Raises:
        InputError: A file cannot be used, too many rows are refused, or too few remain.
    """
    tell("reading rows")
    files = raw_files(raw, root)
    records, refusals = read(raw, section.format, root=root)
    number_read, limit, where = len(records) + len(refusals), section.max_refused, shown(raw, root)

    passed: list[Record] = []
    if not over_limit(len(refusals), number_read, limit):
        tell("checking the table")
        from glmops.prepare.rules import gate

        passed, refused = gate(records, section.tasks, where)
        refusals = sorted([*refusals, *refused], key=lambda refusal: (refusal.file, refusal.line))
    if over_limit(len(refusals), number_read, limit):
        write_table(quarantine, refusals, Refusal)
        raise _too_many(refusals, number_read, limit, where, quarantine)
    quarantine.unlink(missing_ok=True)

    tell("splitting by source text")
    splits = split(passed, section.split, where)
    source = {"files": len(files), "sha256": hash_of(raw, files)}
    return Prepared(splits, refusals, _metrics(source, number_read, passed, refusals, splits))


def write(prepared: Prepared, folder: Path) -> None:
    """train, dev, test and quarantine as Parquet files in ``folder``."""
    for name in SPLITS:
        write_table(folder / f"{name}.parquet", prepared.splits[name], Record)
    write_table(folder / "quarantine.parquet", prepared.quarantine, Refusal)


def count(records: Sequence[Record]) -> dict[str, int]:
    """Rows, different source texts, and rows per task."""
    tasks = Counter(record.task for record in records)
    texts = len({record.group for record in records})
    return {"rows": len(records), "texts": texts, **dict(sorted(tasks.items()))}


def count_labels(records: Sequence[Record]) -> dict[str, int]:
    """How often each label is a target or part of one."""
    rows = (record for record in records if record.task == "classification")
    return dict(sorted(Counter(label for row in rows for label in labels_in(row.target)).items()))


def characters(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Lengths in characters, over all splits."""
    lengths = {
        "prompt": [len(record.prompt) for record in records],
        "target": [len(record.target) for record in records],
    }
    return {
        name: {"min": min(values), "median": statistics.median(values), "max": max(values)}
        for name, values in lengths.items()
    }


def over_limit(refused: int, rows: int, limit: MaxRefused) -> bool:
    """Whether more rows are refused than either limit allows."""
    return refused > limit.rows or refused / rows > limit.share


def _too_many(
    refusals: Sequence[Refusal], rows: int, limit: MaxRefused, where: str, quarantine: Path
) -> InputError:
    """The error that names the first refused rows and says where all of them are."""
    named = [f"\n  {r.file}:{r.line}: {r.reason}" for r in refusals[:NAMED_REFUSALS]]
    rest = f"and {len(refusals) - len(named)} more; " if len(refusals) > len(named) else ""
    return InputError(
        where,
        f"{len(refusals)} of {rows} rows refused, and prepare.max_refused allows {limit.rows} "
        f"rows and a share of {limit.share}:{''.join(named)}\n  {rest}all are in {quarantine}",
        do="Correct or drop these rows, or raise prepare.max_refused.",
    )


def _metrics(
    raw: dict[str, Any],
    number_read: int,
    passed: Sequence[Record],
    refusals: Sequence[Refusal],
    splits: dict[Split, list[Record]],
) -> dict[str, Any]:
    """``read`` = ``accepted`` + ``refused``; the splits hold ``accepted`` - ``duplicates`` rows."""
    accepted = number_read - len(refusals)
    return {
        "raw": raw,
        "rows": {
            "read": number_read,
            "accepted": accepted,
            "refused": len(refusals),
            "duplicates": accepted - len(passed),
        },
        "splits": {name: count(rows) for name, rows in splits.items()},
        "labels": {name: count_labels(rows) for name, rows in splits.items()},
        "characters": characters(passed),
    }
