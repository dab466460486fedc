"""prepare: raw rows → validated rows on their side of the split, quarantine, metrics and card.

Read once, in batches: the texts wait on disk, and everything is decided on the facts of the whole
set. Then the texts are read again and written, each where it belongs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError
from glmops.prepare.examine import (
    Judged,
    Settled,
    judge,
    read_all,
    settle,
    sorted_refusals,
)
from glmops.prepare.gate import suites
from glmops.prepare.split import require_all_sides
from glmops.recipe import Prepare
from glmops.records import SPLITS
from glmops.storage import write_json, write_text

if TYPE_CHECKING:
    import polars as pl

    from glmops.prepare.gate.validation import Gate
    from glmops.prepare.sides import Sided

NAMED_REFUSALS = 5
QUARANTINE = "quarantine.parquet"
DATA_DOCS = "data_docs"
CARD, CARD_PAGE = "card.json", "card.html"


def prepare(
    raw: Path,
    section: Prepare,
    *,
    root: Path,
    folder: Path,
    work: Path,
    name: str = "",
    tell: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Read, pass the gate, drop repeats, split by source text; returns the metrics.

    Args:
        raw: A file or folder of raw rows.
        root: The project; files below it are named relative to it.
        folder: Where train, dev, test and quarantine are written.
        work: Scratch. The Data Docs of this run are there afterwards, whether it succeeded or not;
            the data card if it did, and the refused rows if there were too many to go on.
        name: Of the set, for its card; the raw path when empty.
        tell: Called with each step's name before it starts.
    Raises:
        InputError: A file cannot be used, too many rows are refused, or too few remain.
    """
    import numpy as np

    from glmops.prepare.card.numbers import card_of
    from glmops.prepare.card.page import card_page
    from glmops.prepare.card.texts import texts_of
    from glmops.prepare.counts import metrics
    from glmops.prepare.duplicates import likely_copies
    from glmops.prepare.gate.validation import open_gate
    from glmops.prepare.raw.files import shown
    from glmops.prepare.writing import write_refusals, write_splits

    shutil.rmtree(work, ignore_errors=True)
    texts = work / "texts"
    texts.mkdir(parents=True)
    try:
        where = shown(raw, root)
        read = read_all(raw, section, texts, root=root, tell=tell)
        _require_few(section, read.refusals, read.read, where, work)
        tell("checking the rows")
        with ThreadPoolExecutor(2) as beside:
            threshold = section.duplicates.threshold
            likely = beside.submit(likely_copies, read.facts, read.spool, threshold)
            with open_gate(work / DATA_DOCS) as gate:
                judged = judge(read, section, gate, where)
                _require_few(section, judged.refusals, read.read, where, work)
                settled = settle(judged, section, gate, where)
                tell("splitting by source text")
                sided = _split(judged, settled, likely.result(), section, gate, where, work)
                tell("writing")
                written = beside.submit(write_splits, sided.facts, read.spool, section, folder)
                learnt = (sided.facts["side"] == SPLITS.index("train")).to_numpy()
                looked_at = beside.submit(texts_of, read.spool, sided.facts, learnt)
            # The Data Docs were written meanwhile.
            times, said = written.result(), looked_at.result()
        refusals = _all_refusals(judged, sided)
        write_refusals(folder / QUARANTINE, refusals)
        counts = metrics(raw, section, judged, settled, sided, times)
        tell("drawing the data card")
        card = card_of(
            name or where,
            counts,
            section,
            judged,
            sided.facts,
            repeats=np.union1d(settled.repeats, sided.repeats),
            near=sided.near,
            refusals=refusals,
            texts=said,
        )
        write_json(work / CARD, card)
        write_text(work / CARD_PAGE, card_page(card, docs=True))
        return counts
    finally:
        shutil.rmtree(texts)


def _split(
    judged: Judged,
    settled: Settled,
    likely: pl.Series,
    section: Prepare,
    gate: Gate,
    where: str,
    work: Path,
) -> Sided:
    """The rows on their sides, checked: few enough refused, no leak, no empty side."""
    from glmops.prepare.counts import side_counts
    from glmops.prepare.sides import judged_sides, place

    sided = place(settled.facts, judged.raw.spool, section, likely)
    _require_few(section, _all_refusals(judged, sided), judged.raw.read, where, work)
    if section.leaks == "refuse":
        gate.require(suites.sides(), judged_sides(sided), where)
    texts = sided.facts["text"].n_unique()
    require_all_sides(side_counts(sided.facts), texts, section.split, where)
    return sided


def _all_refusals(judged: Judged, sided: Sided) -> pl.DataFrame:
    return sorted_refusals([judged.refusals, sided.refused.drop("row")])


def _require_few(
    section: Prepare, refusals: pl.DataFrame, rows: int, where: str, work: Path
) -> None:
    """Refuse to go on with more refused rows than the recipe allows; names the first of them."""
    from glmops.prepare.counts import over_limit
    from glmops.prepare.writing import write_refusals

    limit = section.max_refused
    if not over_limit(refusals.height, rows, limit):
        return
    refusals = sorted_refusals([refusals])
    write_refusals(work / QUARANTINE, refusals)
    named = [
        f"\n  {file}:{line}: {reason}"
        for file, line, reason, _ in refusals.head(NAMED_REFUSALS).iter_rows()
    ]
    more = refusals.height - len(named)
    rest = f"and {more} more; " if more else ""
    raise InputError(
        where,
        f"{refusals.height} of {rows} rows refused, and prepare.max_refused allows {limit.rows} "
        f"rows and a share of {limit.share}:{''.join(named)}\n  {rest}all are in "
        f"{work / QUARANTINE}",
        do="Correct or drop these rows, or raise prepare.max_refused.",
    )
