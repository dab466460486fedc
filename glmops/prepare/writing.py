"""Prepared tables: the rows of each side as Parquet, batch by batch, in the order of reading."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.prepare.split import copies_of
from glmops.prepare.spool import Spool, ahead
from glmops.recipe import Prepare
from glmops.records import SPLITS, Record, Refusal

if TYPE_CHECKING:
    import polars as pl

# Texts differ from row to row: a dictionary of them is given up after a megabyte, for nothing.
_PARQUET: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["task", "head", "cue", "target", "file", "template", "source"],
    "write_statistics": False,
}
TRAIN = SPLITS.index("train")


def write_splits(facts: pl.DataFrame, spool: Spool, section: Prepare, folder: Path) -> Any:
    """Write train, dev and test; returns how often each row was written (numpy, by ``facts``).

    Args:
        facts: With ``row``, ``side`` and ``source``. A train row counts as often as its source's
            weight says; every other row once.
    """
    import numpy as np
    import polars as pl
    import pyarrow.parquet as pq

    rows, sides = facts["row"].to_numpy(), facts["side"].to_numpy()
    weights = np.array([source.weight for source in section.all_sources])[facts["source"]]
    names = [each.name for each in fields(Record)]
    times = np.ones(len(rows), dtype=np.int64)
    start = 0
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                pq.ParquetWriter(folder / f"{name}.parquet", _schema(Record), **_PARQUET)
            )
            for name in SPLITS
        ]
        for batch in ahead(spool.read(names, rows)):
            here = slice(start, start + batch.height)
            weighted = (sides[here] == TRAIN) & (weights[here] != 1)
            if weighted.any():
                ids = batch["id"].filter(pl.Series(weighted)).to_list()
                times[here][weighted] = copies_of(ids, weights[here][weighted], section.split.seed)
            for side, writer in enumerate(writers):
                part = batch.select(names)[np.repeat(*_of_side(sides[here] == side, times[here]))]
                if part.height:
                    writer.write_table(part.to_arrow().cast(_schema(Record)))
            start += batch.height
    return times


def write_refusals(path: Path, refusals: pl.DataFrame) -> None:
    """The quarantine: file, line, reason and raw text of every refused row."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    names = [each.name for each in fields(Refusal)]
    draft = path.with_name(f".{path.name}.draft")
    pq.write_table(refusals.select(names).to_arrow().cast(_schema(Refusal)), draft)
    draft.replace(path)


def _of_side(chosen: Any, times: Any) -> tuple[Any, Any]:
    import numpy as np

    return np.flatnonzero(chosen), times[chosen]


def _schema(kind: type[Any]) -> Any:
    """The columns of a row kind, as ``records.write_table`` writes them."""
    import pyarrow as pa

    types = {"int": pa.int64()}
    return pa.schema([(each.name, types.get(str(each.type), pa.string())) for each in fields(kind)])
