"""What is in a raw file and which of its rows would be refused, without a recipe."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError, RecipeError, lookup
from glmops.prepare.formats import FORMATS
from glmops.recipe import MaxRefused, Prepare, Split, parse
from glmops.records import TASKS

if TYPE_CHECKING:
    from glmops.prepare.duplicates import NearCopies
    from glmops.prepare.examine import Judged, Settled

NAMED_LABELS = 20


def check(path: Path | str, format: str, **settings: Any) -> dict[str, Any]:
    """Counts and refusals of a raw file, folder or glob, as one JSON-ready dict.

    ``rows`` = ``accepted`` + ``refused``; ``duplicates`` are the accepted rows that repeat another.
    What is accepted here passes the gate of ``prepare`` too, but for what only a recipe can say:
    its labels and lengths, and that it refuses ``conflicts`` (the same text under two labels),
    which are counted here. Files without answers (rows to predict) are read, too.

    Args:
        settings: Other keys of a recipe's prepare section, such as ``template`` and ``columns``.
    Raises:
        RecipeError: The format is unknown, or the settings do not fit it.
        InputError: The path or a whole file cannot be used.
    """
    from glmops.prepare.duplicates import likely_copies, near_copies
    from glmops.prepare.examine import judge, left_over, read_all
    from glmops.prepare.gate.validation import open_gate

    section = _section(format, settings)
    with tempfile.TemporaryDirectory(prefix="glmops-check-") as scratch, open_gate() as gate:
        raw = read_all(Path(path), section, Path(scratch), root=None, answers=False)
        if raw.facts.height:
            section = section.model_copy(update={"tasks": tuple(raw.tasks)})
        judged = judge(raw, section, gate, str(path))
        settled = left_over(judged)
        one_side = settled.facts["side"].to_numpy() * 0
        threshold = section.duplicates.threshold
        likely = likely_copies(settled.facts, raw.spool, threshold)
        near = near_copies(settled.facts, raw.spool, threshold, one_side, likely)
        return _document(str(path), format, section, judged, settled, near)


def _section(format: str, settings: Mapping[str, Any]) -> Prepare:
    """A recipe's section that refuses nothing that only a recipe can refuse."""
    lookup(FORMATS, format, "format")
    if format == "table" and not (settings.get("columns") and settings.get("template")):
        what = "a table needs a column for each field, and a template"
        do = "For example --column title=headline --column category=label --template "
        raise RecipeError("format table", what, do=f"{do}headline-category.")
    given = {name: value for name, value in settings.items() if value}
    values = {
        "format": format,
        "tasks": TASKS,
        "split": Split(dev=0.1, test=0.1, seed=0),
        "max_refused": MaxRefused(rows=0, share=0),
        "conflicts": "keep",
        **given,
    }
    return parse(Prepare, values, "format")


def _document(
    path: str, format: str, section: Prepare, judged: Judged, settled: Settled, near: NearCopies
) -> dict[str, Any]:
    import polars as pl

    from glmops.prepare.card.numbers import card_of
    from glmops.prepare.card.texts import texts_of
    from glmops.prepare.counts import (
        characters,
        conflicts,
        count,
        count_labels,
        files,
        task_counts,
        whole_sources,
    )

    raw, refusals, facts = judged.raw, judged.refusals, settled.facts
    answer = pl.col("target_characters").fill_null(0)
    seen, refused = files(judged, settled.repeats), refusals.height
    labels = dict(sorted(count_labels(facts, raw).items(), key=lambda item: -item[1]))
    unanswered = judged.facts.filter(answer == 0).height
    repeated = len(settled.repeats)
    rows = {"read": raw.read, "accepted": raw.read - refused, "refused": refused}
    counts = {
        "rows": {**rows, "duplicates": repeated, "unanswered": unanswered},
        "splits": {"all": count(facts)},
        "labels": {"all": labels},
        "stratification": {},
        "near_duplicates": {
            "threshold": section.duplicates.threshold,
            "texts": near.texts,
            "dropped": 0,
        },
        "conflicts": conflicts(judged.facts),
        "leaks": {"text": 0, "near": 0, "refused": 0},
        "oddities": raw.oddities,
        "sources": whole_sources(section, raw, refused, repeated),
        "files": seen,
    }
    return {
        "path": path,
        "format": format,
        "encoding": ", ".join(sorted({file["encoding"] for file in seen.values()})),
        "rows": raw.read,
        "accepted": raw.read - refused,
        "refused": refused,
        "duplicates": repeated,
        "repeated_texts": facts.height + repeated - facts["text"].n_unique(),
        "conflicts": counts["conflicts"],
        "tasks": task_counts(facts),
        "labels": labels,
        "characters": characters(facts.with_columns(answer)) if facts.height else {},
        "unanswered": unanswered,
        "oddities": raw.oddities,
        "files": seen,
        "refusals": refusals.select("file", "line", "reason").to_dicts(),
        "card": card_of(
            path,
            counts,
            section,
            judged,
            facts,
            repeats=settled.repeats,
            near=near,
            refusals=refusals,
            texts=texts_of(raw.spool, facts),
        ),
    }


def refused_file(path: Path | str, format: str, fault: InputError) -> dict[str, Any]:
    """The document of ``check`` for a file that cannot be used at all: one refused row.

    Its line is where the fault is, 0 when it is the whole file.
    """
    file, _, line = fault.where.rpartition(":")
    if not line.isdigit():
        file, line = fault.where, "0"
    reason = str(fault).removeprefix(f"{fault.where}: ")
    return {
        "path": str(path),
        "format": format,
        "rows": 1,
        "accepted": 0,
        "refused": 1,
        "fault": str(fault),
        "refusals": [{"file": file, "line": int(line), "reason": reason}],
    }


def write_card(path: Path, found: Mapping[str, Any]) -> None:
    """The data card of what ``check`` found, as one HTML page.

    Raises:
        InputError: The file as a whole cannot be used: there is nothing to show but that.
    """
    from glmops.prepare.card.page import card_page
    from glmops.storage import write_text

    if "card" not in found:
        raise InputError(path, "no card is written", got=found["fault"], do="Mend the file first.")
    write_text(path, card_page(found["card"]))


def columns_of(options: Sequence[str]) -> dict[str, str | int]:
    """Field → column, from the texts ``field=column``; a number is a place in a headerless file.

    Raises:
        RecipeError: A text has no "=", or a field is given twice.
    """
    columns: dict[str, str | int] = {}
    for option in options:
        field, equals, column = option.partition("=")
        if not (field and equals and column) or field in columns:
            what = "given twice" if field in columns else "not FIELD=COLUMN"
            do = "For example --column title=headline, or title=1 in a file without a header."
            raise RecipeError("--column", what, got=option, do=do)
        columns[field] = int(column) if column.isdigit() else column
    return columns


def summary(found: Mapping[str, Any]) -> list[str]:
    """What ``check`` found, as lines for people: each refused row, then the counts."""
    lines = [f"{each['file']}:{each['line']}: {each['reason']}" for each in found["refusals"]]
    lines.append(
        f"{found['rows']} rows, {found['accepted']} good, {found['refused']} refused "
        f"({found['encoding']})"
    )
    lines += [f"  {name}: {_counted(found[name])}" for name in ("tasks", "labels") if found[name]]
    for name, length in found["characters"].items():
        said = f"{length['min']} to {length['max']}, median {length['median']}"
        lines.append(f"  characters of a {name}: {said}")
    lines += [f"  {each['level']}: {each['what']}" for each in found["card"]["concerns"]]
    return lines


def _counted(counts: Mapping[str, int]) -> str:
    named = [f"{name} {count}" for name, count in list(counts.items())[:NAMED_LABELS]]
    return ", ".join([*named, "…"] if len(counts) > len(named) else named)
