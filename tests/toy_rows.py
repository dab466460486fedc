"""Rows for the gate and the split, without a raw file: row frames of our own writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from glmops.prepare.examine import Judged, Raw, judge
from glmops.prepare.frames import ROWS
from glmops.prepare.gate.answers import Vocabulary
from glmops.prepare.gate.facts import facts_of
from glmops.prepare.gate.validation import open_gate
from glmops.prepare.looks import SourceSeen
from glmops.prepare.spool import Spool
from glmops.recipe import MaxRefused, Prepare, Split

Row = Mapping[str, Any]
GOOD = {
    "task": "classification",
    "template": "headline-category",
    "head": "标题：",
    "cue": "\n类别：",
    "target": "体育",
    "file": "rows.txt",
    "source": 0,
    "weight": 1.0,
}


def row(number: int, **changes: Any) -> dict[str, Any]:
    """A good row; its text and id say its number, its line is the number plus one."""
    own = {"id": f"{number}", "body": f"第{number}条新闻。", "line": number + 1}
    made = {**GOOD, **own, **changes}
    return {"group": " ".join(made["body"].split()), **made}


def frame(rows: Sequence[Row]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=ROWS)


def section(**changes: Any) -> Prepare:
    """A prepare section of one source, the format context-target, that refuses nothing much."""
    values: dict[str, Any] = {
        "format": "context-target",
        "tasks": ("classification",),
        "split": Split(dev=0.1, test=0.2, seed=5),
        "max_refused": MaxRefused(rows=10**6, share=1.0),
    }
    if "sources" in changes:
        del values["format"]
    return Prepare(**{**values, **changes})


def raw_of(folder: Path, batches: Sequence[Sequence[Row]], made: Prepare) -> Raw:
    """Rows as ``read_all`` gives them; a row's raw text is its body, a bar and its target."""
    folder.mkdir(parents=True, exist_ok=True)
    spool, vocabulary = Spool(folder), Vocabulary()
    facts = []
    seen = [SourceSeen() for _ in made.all_sources]
    for rows in batches:
        batch = frame(rows)
        source = int(batch["source"][0])
        seen[source].read += batch.height
        spool.add(batch.with_columns(pl.concat_str("body", pl.lit("|"), "target").alias("raw")))
        facts.append(facts_of(batch, made, made.all_sources[source], vocabulary))
    none = pl.DataFrame(
        schema={"file": pl.String, "line": pl.Int64, "reason": pl.String, "raw": pl.String}
    )
    whole = pl.concat(facts).with_row_index("row")
    return Raw(spool, whole, none, seen, vocabulary, tuple(sorted(ROWS)))


def judged(folder: Path, *batches: Sequence[Row], **changes: Any) -> Judged:
    """What the gate says about rows; by default they may be of any task that they are of."""
    tasks = tuple(dict.fromkeys(each["task"] for rows in batches for each in rows))
    made = section(**{"tasks": tasks, **changes})
    with open_gate() as gate:
        return judge(raw_of(folder, batches, made), made, gate, "data/raw")


def refused(found: Judged) -> list[tuple[int, str]]:
    """Line and reason of every refused row."""
    return list(found.refused.select("line", "reason").iter_rows())
