"""What ``diff`` found, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from glmops.prepare.diff import is_same
from glmops.prepare.diff.changes import KINDS

NAMED = 5
SHOWN_CHARACTERS = 80
SHOWN_SHARE = 0.001


def summary(found: Mapping[str, Any], sources: Sequence[str] = ()) -> list[str]:
    """The difference in words: the counts, drift with its verdicts, and examples.

    Args:
        sources: What to call each source of the recipe, in order.
    """
    rows, old, new = found["rows"], found["old"], found["new"]
    lines = [
        f"old  {old['where']}: {_size(old)}",
        f"new  {new['where']}: {_size(new)}",
    ]
    if is_same(found):
        return [*lines, "The two hold the same rows, on the same sides."]
    lines.append(
        f"{rows['added']} rows added, {rows['removed']} removed, {rows['relabelled']} relabelled "
        f"(same prompt, other answer); {rows['kept']} stayed as they were"
    )
    if rows["added_about_old_texts"]:
        lines.append(
            f"  {rows['added_about_old_texts']} of the added rows are about texts that were there "
            "before, under another prompt"
        )
    if rows["reweighted"]:
        lines.append(f"  {rows['reweighted']} rows stand in train more or less often than before")
    lines += [*_moved(found), *_tables(found, sources), *_labels(found), *_lengths(found)]
    return [*lines, *_examples(found)]


def _size(version: Mapping[str, Any]) -> str:
    sides = ", ".join(f"{side} {count}" for side, count in version["written"].items())
    return f"{version['rows']} rows about {version['texts']} texts ({sides})"


def _moved(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["rows"]["moved"]:
        yield "No source text moved to another side of the split."
        return
    ways = ", ".join(f"{way['old']} → {way['new']} {way['rows']}" for way in found["moved"])
    yield f"WARNING: {found['rows']['moved']} ROWS MOVED to another side of the split: {ways}."
    yield (
        "  A model trained on one version has seen test rows of the other: their scores cannot be "
        "compared. Adding rows never does this; prepare.split or the side of a source has changed."
    )


def _tables(found: Mapping[str, Any], sources: Sequence[str]) -> Iterator[str]:
    for column in ("task", "side", "source"):
        counts = found[f"by_{column}"]
        if column == "source" and len(sources) < 2 and len(counts) < 2:
            continue
        for value, kinds in counts.items():
            number = int(value) if column == "source" else -1
            name = sources[number] if 0 <= number < len(sources) else value
            said = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind])
            yield f"  {column} {name}: {said}"
    for change in found["relabelled"][:NAMED]:
        yield f"  relabelled {change['old']} → {change['new']}: {change['rows']}"


def _labels(found: Mapping[str, Any]) -> Iterator[str]:
    drift = found["labels"]
    if not drift:
        return
    yield f"labels: {drift['verdict']}"
    yield f"  old → new: total variation {drift['total_variation']:.4f}{_shares(drift)}"
    if test := drift.get("test"):
        few, many = test["compared"]
        yield (
            f"  the {test['rows']} rows ({few} against {many}): total variation "
            f"{test['total_variation']:.4f}{_shares(test)}"
        )
        if test["p"] is not None:
            yield (
                f"  chi-square {test['chi_square']:.1f}, {test['degrees_of_freedom']} degrees of "
                f"freedom, {_p(test['p'])} (from {test['p_from']})"
            )


def _shares(drift: Mapping[str, Any]) -> str:
    rows = [row for row in drift["furthest"] if abs(row["new"] - row["old"]) >= SHOWN_SHARE][:NAMED]
    said = ", ".join(f"{row['label']} {row['old']:.1%} → {row['new']:.1%}" for row in rows)
    return f" ({said})" if said else ""


def _lengths(found: Mapping[str, Any]) -> Iterator[str]:
    for task, parts in found["lengths"].items():
        for part, drift in parts.items():
            if "test" not in drift:
                continue
            test, median = drift["test"], drift["median"]
            yield f"length of the {part}s, {task}: {drift['verdict']}"
            yield (
                f"  median characters {_number(median['old'])} → {_number(median['new'])}, the "
                f"{test['rows']} rows {_number(test['median'])}; Kolmogorov-Smirnov distance "
                f"{test['distance']:.4f}, {_p(test['p'])}"
            )


def _examples(found: Mapping[str, Any]) -> Iterator[str]:
    for kind in KINDS:
        for row in found["examples"][kind]:
            answer = _short(row["target"])
            if kind == "relabelled":
                answer = f"{_short(row['old_target'])} → {answer}"
            side = f"{row['old_sides']} → {row['side']}" if kind == "moved" else row["side"]
            yield f"{kind}, {side}: {row['file']}:{row['line']}: {_short(row['prompt'])} | {answer}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _p(value: float) -> str:
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.4f}"
