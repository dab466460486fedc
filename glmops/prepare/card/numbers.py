"""The numbers of a card, as one JSON-ready dict: of a prepared set, or of raw rows without a split.

Both hold the same keys. Counts per side are rows as they are written, train as often as a source's
weight says; lengths, scripts, answers, templates and examples are of every different row once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glmops.prepare.card.concerns import concerns
from glmops.prepare.card.lengths import lengths_of
from glmops.prepare.card.reasons import by_reason
from glmops.prepare.card.shown import conflicting, cut, exact_pairs, example, near_pairs
from glmops.prepare.card.texts import Texts
from glmops.prepare.duplicates import NearCopies
from glmops.prepare.examine import Judged, Raw
from glmops.prepare.gate.facts import FORMAT_LABELS
from glmops.prepare.spool import Spool
from glmops.recipe import Prepare
from glmops.templates import TEMPLATES

if TYPE_CHECKING:
    import polars as pl

PLACEHOLDER = "placeholder "
_COLUMNS = ("file", "line", "task", "template", "head", "body", "cue", "target")


def card_of(
    name: str,
    counts: Mapping[str, Any],
    section: Prepare,
    judged: Judged,
    facts: pl.DataFrame,
    *,
    repeats: Any,
    near: NearCopies,
    refusals: pl.DataFrame,
    texts: Texts,
) -> dict[str, Any]:
    """Everything that a card shows.

    Args:
        name: Of the set, or the path that was checked.
        counts: ``rows, splits, labels, stratification, near_duplicates, conflicts, leaks,
            oddities, sources, files`` as in ``counts.metrics``; without sides, ``splits`` and
            ``labels`` have the one key "all".
        facts: Of the different rows that are left.
        repeats: Row numbers of the exact repeats (numpy).
        refusals: Of reader, gate and split, by file and line.
        texts: What the texts of ``facts`` say.
    """
    raw, spool = judged.raw, judged.raw.spool
    oddities = counts["oddities"]
    strange = {key: n for key, n in oddities.items() if not key.startswith(PLACEHOLDER)}
    exact = exact_pairs(spool, judged.facts, judged.refused["row"], repeats)
    card: dict[str, Any] = {
        "name": name,
        "rows": dict(counts["rows"]),
        "splits": counts["splits"],
        "labels": counts["labels"],
        "absent_labels": absent_labels(section, counts["labels"]),
        "stratification": counts["stratification"],
        "lengths": lengths_of(facts),
        "characters": texts.characters,
        "main_scripts": texts.main_scripts,
        "answers": {
            "different": texts.different_answers,
            "most_frequent": _answers(spool, texts.answers),
        },
        "duplicates": {
            "exact": {"rows": len(repeats), "examples": exact},
            "near": {
                **counts["near_duplicates"],
                "examples": near_pairs(spool, near.rows, near.pairs),
            },
        },
        "conflicts": {
            **counts["conflicts"],
            "kept": section.conflicts == "keep",
            "examples": conflicting(spool, judged.facts),
        },
        "leaks": {**counts["leaks"], "kept": section.leaks == "keep"},
        "refusals": by_reason(refusals),
        "placeholders": {
            key.removeprefix(PLACEHOLDER): rows
            for key, rows in oddities.items()
            if key.startswith(PLACEHOLDER)
        },
        "oddities": strange,
        "examples": _examples(spool, texts.examples),
        "templates": texts.templates,
        "sources": counts["sources"],
        "files": _files(raw, counts["files"], refusals),
        "longest_fields": dict(sorted(raw.longest.items())),
    }
    return {"concerns": concerns(card), **card}


def absent_labels(section: Prepare, labels: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Labels that the recipe or the format declares and no row has."""
    declared = list(section.labels or ())
    for source in section.all_sources:
        made = TEMPLATES.get(source.template) if source.template else None
        if section.labels is None and (made is None or made.task == "classification"):
            declared += FORMAT_LABELS.get(source.format, ())
    found = {label for counts in labels.values() for label, rows in counts.items() if rows}
    return [label for label in dict.fromkeys(declared) if label not in found] if found else []


def _answers(spool: Spool, most: list[tuple[int, int]]) -> list[dict[str, Any]]:
    texts = spool.at(["target"], [row for row, _ in most])
    return [{"answer": cut(texts[row]["target"]), "rows": count} for row, count in most]


def _examples(spool: Spool, numbers: list[int]) -> list[dict[str, Any]]:
    rows = spool.at(_COLUMNS, numbers)
    return [
        {**example(rows[row]), "task": rows[row]["task"], "template": rows[row]["template"]}
        for row in numbers
    ]


def _files(
    raw: Raw, files: Mapping[str, Mapping[str, Any]], refusals: pl.DataFrame
) -> dict[str, dict[str, Any]]:
    """Per file what the metrics say, its hash, how its lines end and how many rows are refused."""
    refused = dict(refusals.group_by("file").len().iter_rows())
    found: dict[str, dict[str, Any]] = {name: dict(file) for name, file in files.items()}
    for seen in raw.sources:
        for name, digest in seen.sha256.items():
            found[name] |= {"sha256": digest, "refused": refused.get(name, 0)}
            if name in seen.endings:
                found[name] |= seen.endings[name]._asdict()
    return found
