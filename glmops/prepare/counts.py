"""The numbers of a prepared set: metrics.json, from facts alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.prepare.examine import Judged, Raw, Settled
from glmops.prepare.sides import Sided
from glmops.prepare.split import stratification
from glmops.recipe import MaxRefused, Prepare
from glmops.records import SPLITS, TASKS, Split
from glmops.storage import sha256_json

if TYPE_CHECKING:
    import polars as pl


def metrics(
    path: Path, section: Prepare, judged: Judged, settled: Settled, sided: Sided, times: Any
) -> dict[str, Any]:
    """What the stage reports, as one JSON-ready dict.

    ``read`` = ``accepted`` + ``refused``; the splits hold ``accepted`` - ``duplicates`` - the near
    copies that were dropped, and train each row as often as its source's weight says.

    Args:
        times: How often each of the prepared rows was written (numpy, by ``sided.facts``).
    """
    import numpy as np

    raw, facts = judged.raw, sided.facts
    repeated = np.union1d(settled.repeats, sided.repeats)
    written = facts.select("side", "task", "text", "label")[_repeated(times)]
    refused = raw.refusals.height + judged.refused.height + sided.refused.height
    sides = {name: written.filter(written["side"] == number) for number, name in enumerate(SPLITS)}
    labels = {name: count_labels(rows, raw) for name, rows in sides.items()}
    return {
        "raw": {"files": len(_hashes(raw)), "sha256": sha256_json(_by_name(path, raw))},
        "rows": {
            "read": raw.read,
            "accepted": raw.read - refused,
            "refused": refused,
            "duplicates": len(repeated),
        },
        "splits": {name: count(rows) for name, rows in sides.items()},
        "labels": labels,
        "stratification": stratification(labels),
        "characters": characters(facts),
        "near_duplicates": {
            "threshold": section.duplicates.threshold,
            "texts": sided.near.texts,
            "dropped": len(sided.dropped),
        },
        "conflicts": conflicts(judged.facts),
        "leaks": {**sided.leaks, "refused": sided.refused.height},
        "oddities": raw.oddities,
        "sources": sources(section, judged, repeated, sided, times),
        "files": files(judged, repeated),
    }


def count(facts: pl.DataFrame) -> dict[str, int]:
    """Rows, different source texts, and rows per task."""
    return {"rows": facts.height, "texts": facts["text"].n_unique(), **task_counts(facts)}


def task_counts(facts: pl.DataFrame) -> dict[str, int]:
    """Rows per task that occurs, by name."""
    tasks: dict[str, int] = dict(facts.group_by("task").len().iter_rows())
    return {task: tasks[task] for task in sorted(TASKS) if task in tasks}


def count_labels(facts: pl.DataFrame, raw: Raw) -> dict[str, int]:
    """How often each label is a target or part of one."""
    sets = list(raw.vocabulary.labels)
    counts: Counter[str] = Counter()
    for number, rows in facts.group_by("label").len().iter_rows():
        counts.update(dict.fromkeys(sets[number] if number is not None else (), rows))
    return dict(sorted(counts.items()))


def characters(facts: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Lengths in characters, over all splits; rows without a prompt count as 0."""
    lengths = {
        "prompt": facts["prompt_characters"].fill_null(0),
        "target": facts["target_characters"],
    }
    return {
        name: {
            "min": _number(values.min()),
            "median": _number(values.median()),
            "max": _number(values.max()),
        }
        for name, values in lengths.items()
    }


def conflicts(facts: pl.DataFrame) -> dict[str, int]:
    """Texts that have several labels, and their rows, whether refused or kept."""
    rows = facts.filter(facts["labels_of_text"] > 1)
    return {"texts": rows["question"].n_unique(), "rows": rows.height}


def sources(
    section: Prepare, judged: Judged, repeated: Any, sided: Sided, times: Any
) -> list[dict[str, Any]]:
    """What became of each source's rows."""
    raw = judged.raw
    found: list[dict[str, Any]] = []
    for index, (source, seen) in enumerate(zip(section.all_sources, raw.sources, strict=True)):
        total = raw.facts.filter(raw.facts["source"] == index)
        refused = _of(total, judged.refused["row"]) + _of(total, sided.refused["row"])
        mine = (sided.facts["source"] == index).to_numpy()
        rows: Counter[int] = Counter(
            sided.facts["side"].to_numpy()[mine].repeat(times[mine]).tolist()
        )
        found.append(
            {
                "format": source.format,
                "files": dict(sorted(seen.sha256.items())),
                "weight": source.weight,
                "read": seen.read,
                "refused": seen.read - total.height + refused,
                "duplicates": _of(total, repeated),
                **{name: rows[number] for number, name in enumerate(SPLITS)},
            }
        )
    return found


def whole_sources(section: Prepare, raw: Raw, refused: int, repeated: int) -> list[dict[str, Any]]:
    """As ``sources``, of one source whose rows are on no side."""
    (source,), (seen,) = section.all_sources, raw.sources
    return [
        {
            "format": source.format,
            "files": dict(sorted(seen.sha256.items())),
            "weight": source.weight,
            "read": seen.read,
            "refused": refused,
            "duplicates": repeated,
        }
    ]


def files(judged: Judged, repeated: Any) -> dict[str, dict[str, Any]]:
    """Per file: its encoding, the rows read, and how many of them repeat an earlier row.

    Args:
        repeated: Row numbers (numpy).
    """
    raw = judged.raw
    rows = raw.facts[repeated] if len(repeated) else raw.facts.head(0)
    again: dict[int, int] = dict(rows.group_by("file").len().iter_rows())
    found: dict[str, dict[str, Any]] = {}
    for seen in raw.sources:
        for name, encoding in seen.encodings.items():
            file = found.setdefault(name, {"encoding": encoding, "rows": 0})
            file["rows"] += seen.rows_of_file[name]
            file["duplicates"] = again.get(raw.vocabulary.files.get(name, -1), 0)
            if name in seen.unread:
                file["unread_columns"] = list(seen.unread[name])
    return dict(sorted(found.items()))


def over_limit(refused: int, rows: int, limit: MaxRefused) -> bool:
    """Whether more rows are refused than either limit allows."""
    return refused > limit.rows or refused / max(rows, 1) > limit.share


def _hashes(raw: Raw) -> dict[str, str]:
    return {name: each for seen in raw.sources for name, each in seen.sha256.items()}


def _by_name(path: Path, raw: Raw) -> dict[str, str]:
    return {name: each for seen in raw.sources for name, each in seen.hash_of_name(path).items()}


def _of(facts: pl.DataFrame, rows: Any) -> int:
    """How many of some row numbers are among ``facts``."""
    import polars as pl

    return int(facts["row"].is_in(pl.Series(rows, dtype=pl.UInt32).implode()).sum())


def _repeated(times: Any) -> Any:
    import numpy as np

    return np.repeat(np.arange(len(times)), times)


def _number(value: Any) -> float:
    return int(value) if value == int(value) else float(value)


def side_counts(facts: pl.DataFrame) -> dict[Split, int]:
    """Rows on each side."""
    found: dict[int, int] = dict(facts.group_by("side").len().iter_rows())
    return {name: found.get(number, 0) for number, name in enumerate(SPLITS)}
