"""What `glmops new` must know about rows before it can write a recipe: they are read and prepared
once, as the new recipe would, into a folder that is thrown away.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError
from glmops.recipe import MaxRefused, Prepare, Split, parse
from glmops.records import TASKS, Refusal, read_table

if TYPE_CHECKING:
    from glmops.prepare.examine import Raw

# For few rows: larger shares, so that a hash of few texts leaves no side empty.
FEW = Split(dev=0.1, test=0.2, seed=13)
MOST_REFUSED = 0.1
"""More than every tenth row refused: the format, a column or the file is another one than said."""
_ANY = MaxRefused(rows=2**53, share=1.0)


@dataclass(frozen=True, slots=True)
class Survey:
    """What the rows are."""

    rows: int
    refused: tuple[Refusal, ...]
    tasks: dict[str, int]
    """Task → accepted rows, most frequent task first."""
    labels: dict[str, int]
    """Label → rows that have it, most frequent first."""
    template: str
    split: Split
    longest: dict[str, int]
    """prompt, target → the most characters of one."""
    characters: int
    """How many different characters occur in the texts."""


def survey(raw: Path, settings: Mapping[str, Any], split: Split, root: Path) -> Survey:
    """Read and prepare the rows.

    Args:
        settings: Of the prepare section: ``format`` and whatever says how to read it.
        split: The shares of the sides, where there are texts enough for them.
    Raises:
        RecipeError: The settings do not fit together.
        InputError: The rows cannot be used, or more than MOST_REFUSED of them are refused.
    """
    from glmops.prepare.examine import read_all
    from glmops.prepare.stage import prepare

    with tempfile.TemporaryDirectory(prefix="glmops-new-") as name:
        scratch = Path(name)
        texts, out = scratch / "texts", scratch / "out"
        texts.mkdir()
        out.mkdir()
        first = read_all(raw, _section(settings, TASKS, split), texts, root=root, answers=False)
        unread = [Refusal(*row) for row in first.refusals.head(1).iter_rows()]
        _require_few(raw, unread, first.refusals.height, first.read)
        _require_answers(raw, first)
        split = _fitting(raw, first, split)
        section = _section(settings, first.tasks, split)
        metrics = prepare(raw, section, root=root, folder=out, work=scratch / "work")
        refused = read_table(out / "quarantine.parquet", Refusal)
        _require_few(raw, refused, len(refused), first.read)
        return _survey(first, refused, split, metrics)


def _survey(first: Raw, refused: list[Refusal], split: Split, metrics: dict[str, Any]) -> Survey:
    tasks: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    for side, counts in metrics["splits"].items():
        tasks.update({task: counts[task] for task in TASKS if task in counts})
        labels.update(metrics["labels"].get(side, {}))
    template = next(first.spool.read(["template"]))["template"][0]
    return Survey(
        rows=first.read,
        refused=tuple(refused),
        tasks=dict(tasks.most_common()),
        labels=dict(labels.most_common()),
        template=template,
        split=split,
        longest={part: counts["max"] for part, counts in metrics["characters"].items()},
        characters=len(_alphabet(first)),
    )


def _section(settings: Mapping[str, Any], tasks: Any, split: Split) -> Prepare:
    given = {"tasks": tasks, "split": split, "max_refused": _ANY, **settings}
    return parse(Prepare, given, "the options given")


def _require_answers(raw: Path, first: Raw) -> None:
    import polars as pl

    if first.facts.filter(pl.col("target_characters").fill_null(0) == 0).height:
        what = "rows without an answer can be predicted, not learned from"
        raise InputError(raw, what, do="Give rows that have the answer's column.")


def _fitting(raw: Path, first: Raw, split: Split) -> Split:
    """The shares that the texts are enough for."""
    from glmops.prepare.split import texts_needed

    texts, needed = first.facts["text"].n_unique(), texts_needed(FEW)
    if texts < needed:
        raise InputError(
            raw,
            f"too few different texts to learn from and to test on, {needed} are needed",
            got=texts,
            do="Add rows.",
        )
    return FEW if texts < texts_needed(split) else split


def _require_few(raw: Path, named: list[Refusal], refused: int, rows: int) -> None:
    if refused <= MOST_REFUSED * rows:
        return
    first = named[0]
    raise InputError(
        f"{first.file}:{first.line}",
        f"{first.reason} (the first of {refused} refused rows, of {rows})",
        do=f"Mend the rows (`glmops check {raw} --format …` lists all), or name their real format.",
    )


def _alphabet(first: Raw) -> set[str]:
    found: set[str] = set()
    for batch in first.spool.read(["head", "body", "cue", "target"]):
        for name in ("head", "body", "cue", "target"):
            for text in batch[name].unique():
                found.update(text)
    return found
