"""Facts about what the answers say: labels as numbers, and what is wrong inside an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from glmops.prepare.targets import BadRow, labels_in, labels_of, triples_in
from glmops.templates import TEMPLATES

if TYPE_CHECKING:
    import polars as pl

FAULTS = ("broken_answer", "undeclared_label", "foreign_label")


@dataclass(slots=True)
class Vocabulary:
    """Label sets and file names as numbers, in the order in which they were first seen."""

    labels: dict[tuple[str, ...], int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)

    def label(self, labels: Sequence[str]) -> int:
        """The number of a set of labels; their order in the target does not matter."""
        return self.labels.setdefault(tuple(sorted(set(labels))), len(self.labels))

    def file(self, name: str) -> int:
        return self.files.setdefault(name, len(self.files))


def answer_facts(
    rows: pl.DataFrame,
    declared: Sequence[str] | None,
    allowed: Sequence[str] | None,
    vocabulary: Vocabulary,
) -> list[pl.Series]:
    """``label`` (its number, null for rows of other tasks) and FAULTS of each row.

    Args:
        declared: The recipe's labels; None: any.
        allowed: The format's labels; None: any.
    """
    import polars as pl

    pairs = rows.select("template", "task", "target").with_columns(
        pl.when(pl.col("task") == "generation").then(pl.lit("")).otherwise("target").alias("target")
    )
    # Labels are few: each different target is looked at once.
    different = pairs.unique(maintain_order=True)
    facts: dict[str, list[int | None]] = {name: [] for name in ("label", *FAULTS)}
    for template, task, target in different.iter_rows():
        found = _facts(template, task, target, declared, allowed, vocabulary)
        for name, value in found.items():
            facts[name].append(value)
    seen = different.with_columns(
        pl.Series(name, values, dtype=pl.Int32 if name == "label" else pl.UInt8)
        for name, values in facts.items()
    )
    joined = pairs.join(seen, on=pairs.columns, how="left", maintain_order="left")
    return joined.select(list(facts)).get_columns()


def require_whole(template: str, task: str, target: str) -> list[str]:
    """The labels of an answer, none of another task's; refused if it is not what it begins as.

    Raises:
        BadRow: Triples or a JSON list of labels that are broken.
    """
    if task == "triples":
        triples_in(target)
    if task != "classification":
        return []
    # Where the template knows its task, the answer is a column: a label may begin with a bracket.
    by_shape = TEMPLATES[template].task is None and target.lstrip().startswith("[")
    return labels_in(target) if by_shape else labels_of(target)


def _facts(
    template: str,
    task: str,
    target: str,
    declared: Sequence[str] | None,
    allowed: Sequence[str] | None,
    vocabulary: Vocabulary,
) -> Mapping[str, int | None]:
    facts: dict[str, int | None] = {"label": None, **dict.fromkeys(FAULTS, 0)}
    if not target.strip():
        return facts
    try:
        labels = require_whole(template, task, target)
    except BadRow:
        return {**facts, "broken_answer": 1}
    if labels:
        facts["label"] = vocabulary.label(labels)
        facts["undeclared_label"] = int(declared is not None and not set(labels) <= {*declared})
        facts["foreign_label"] = int(allowed is not None and not set(labels) <= {*allowed})
    return facts
