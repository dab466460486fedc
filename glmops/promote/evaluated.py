"""What `evaluate` stored about one model: its answers and scores on one test set, read for people.

The report and `compare` read it; the gate needs no more than the scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from glmops.errors import InputError
from glmops.promote.bootstrap import Column
from glmops.promote.verdict import show
from glmops.storage import read_json, read_jsonl

ROW_METRICS = {
    "classification": ("accuracy", 1.0),
    "triples": ("f1", 1.0),
    "keywords": ("f1", 1.0),
    "generation": ("rouge-l", 100.0),
}
"""The metric that says how right one row is, and its best value."""
SMALLER_IS_BETTER = ("unparsable", "outside-labels", "json-repaired", "ece")
HUNDRED = ("rouge-", "bleu-", "sacrebleu")
"""How the names of metrics begin that run from 0 to 100; every other one runs from 0 to 1."""


class Mark(NamedTuple):
    """How right one row is: ``quality`` runs from 0 to 1, ``text`` is for people."""

    quality: float
    text: str

    @property
    def right(self) -> bool:
        return self.quality >= 1.0


UNMARKED = Mark(0.0, "not scored")


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """One model on one test set. ``columns`` are its scores by ``task/metric``."""

    name: str
    folder: Path
    card: Mapping[str, Any]
    answers: Mapping[str, Mapping[str, Any]]
    columns: Mapping[str, Column]
    speaks: bool = True
    """False for a baseline: its words are not stored, ``answers`` are those of the model that it
    stands beside, and tell no more than what was asked."""

    def marks(self) -> dict[str, Mark]:
        """Row id → how right it is. Nothing expected and nothing answered is right."""
        marks: dict[str, Mark] = {}
        for task, (metric, best) in ROW_METRICS.items():
            column = self.columns.get(f"{task}/{metric}")
            if column is None:
                continue
            pairs = zip(
                column.ids, column.numerator_N.tolist(), column.denominator_N.tolist(), strict=True
            )
            marks |= {id: _mark(metric, top / low if low else best, best) for id, top, low in pairs}
        return marks


def read_evaluated(folder: Path, name: str) -> Evaluated:
    """The folder of an evaluation: ``reports/NAME/evaluate``, or ``evaluation`` in a package.

    Raises:
        InputError: A file that every evaluation has is missing.
    """
    answers = folder / "answers.jsonl"
    if not answers.is_file():
        raise InputError(answers, "no such file", do="Run the evaluate stage.")
    rows = {row["id"]: row for row in read_jsonl(answers)}
    card = read_json(folder / "scorecard.json")
    return Evaluated(name, folder, card, rows, read_columns(folder / "scores.parquet")[""])


def read_columns(path: Path) -> dict[str, dict[str, Column]]:
    """Scores straight into columns: baseline (or "" where the file has none) → metric → rows.

    A table of 20,000 rows and ten metrics takes a tenth of a second; as records it takes two.
    """
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(path, "no such file", do="Run the evaluate stage.")
    table = pq.read_table(path)
    owned = "baseline" in table.column_names
    keys = [_coded(table[name]) for name in (*(["baseline"] if owned else []), "task", "metric")]
    ids, places = _coded(table["id"])
    order = np.lexsort((places, *(codes for _, codes in reversed(keys))))
    keys_KN = np.stack([codes[order] for _, codes in keys])
    starts = np.flatnonzero(np.any(np.diff(keys_KN, axis=1, prepend=-1) != 0, axis=0))
    top, low = (table[name].to_numpy()[order] for name in ("numerator", "denominator"))
    found: dict[str, dict[str, Column]] = {} if owned else {"": {}}
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        *owner, task, metric = (words[codes[order[start]]] for words, codes in keys)
        rows = tuple(ids[places[order[start:stop]]])
        rows = shared.setdefault(rows, rows)
        column = Column(rows, top[start:stop], low[start:stop])
        found.setdefault("".join(owner), {})[f"{task}/{metric}"] = column
    return found


def _coded(column: Any) -> tuple[Any, Any]:
    """A column of text as its sorted words and, per row, which of them it is."""
    coded = column.combine_chunks().dictionary_encode()
    words = np.array(coded.dictionary.to_pylist(), dtype=object)
    order = np.argsort(words, kind="stable")
    ranks = np.empty(len(words), dtype=np.int64)
    ranks[order] = np.arange(len(words))
    return words[order], ranks[coded.indices.to_numpy(zero_copy_only=False)]


def read_baselines(folder: Path) -> dict[str, dict[str, Column]]:
    """Baseline → metric → rows; nothing where the evaluation has none."""
    path = folder / "baselines.parquet"
    return (
        {name: found for name, found in read_columns(path).items() if name}
        if path.is_file()
        else {}
    )


def common_rows(one: Evaluated, *others: Evaluated) -> set[str]:
    """Ids of the rows that all were asked alike: the same id, prompt and expected answer."""
    return {
        id
        for id, row in one.answers.items()
        if all(
            (other := each.answers.get(id)) is not None
            and (other["prompt"], other["target"]) == (row["prompt"], row["target"])
            for each in others
        )
    }


def best_of(metric: str) -> float:
    """The top of a metric's scale."""
    return 100.0 if metric.rpartition("/")[2].startswith(HUNDRED) else 1.0


def _mark(metric: str, value: float, best: float) -> Mark:
    text = "right" if value >= best else "wrong" if value <= 0 else f"{metric} {show(value)}"
    return Mark(value / best, text)
