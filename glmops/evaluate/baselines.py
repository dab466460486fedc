"""What needs no fine-tuning answers the same rows, and is scored by the same code as the model.

    baseline  tasks              answers
    majority  classification     the commonest label of the train rows, everywhere
    linear    classification     what a linear SVM on TF-IDF of 1 to 3 characters reads
    nearest   all others         the answer to the nearest train row: cosine of TF-IDF of 1 to 3
                                 characters, without those of more than a fiftieth of the rows
    base      all                what the untouched base writes, where the model has one

A baseline answers in text, as a model does: in the form of a train row with that answer. Of a task
that has no train rows there is no baseline but base. Equal inputs give equal answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from glmops.evaluate import ngrams
from glmops.evaluate.metrics import ratio, true_label
from glmops.evaluate.scorecard import score_rows
from glmops.records import TASKS, Answer, BaselineScore, Record, Task
from glmops.storage import fresh_folder, read_json

SOFTNESS, TOLERANCE = 0.5, 0.01
"""The SVM's C, and when it stops: five digits more take twice as long and change no accuracy."""
RARE = 0.02
"""Of the train rows: what stands in more of them finds all of them and tells none apart."""
CELLS = 10_000_000
"""Similarities at a time: at most 120 MB, however many rows there are on both sides."""


class Rows(NamedTuple):
    """One task's rows: what was taught, and the texts to answer."""

    texts: list[str]
    targets: list[str]
    names: list[str]
    asked: list[str]


def majority(rows: Rows) -> list[str]:
    """The commonest label; of equally common ones the first in order."""
    labels = [true_label(*row) for row in zip(rows.targets, rows.names, strict=True)]
    counts = Counter(labels)
    commonest = min(counts, key=lambda label: (-counts[label], label))
    return [rows.targets[labels.index(commonest)]] * len(rows.asked)


def linear(rows: Rows) -> list[str]:
    """The label that a linear SVM reads; the majority's where there is nothing to tell apart."""
    labels = [true_label(*row) for row in zip(rows.targets, rows.names, strict=True)]
    learnt = ngrams.learn(rows.texts)
    if learnt is None or len(set(labels)) == 1:
        return majority(rows)
    from sklearn.svm import LinearSVC

    known, weights = learnt
    reader = LinearSVC(C=SOFTNESS, tol=TOLERANCE, random_state=0).fit(weights, labels)
    form = dict(zip(reversed(labels), reversed(rows.targets), strict=True))
    return [form[label] for label in reader.predict(known.weigh(rows.asked)).tolist()]


def nearest(rows: Rows) -> list[str]:
    """The answer to the nearest train row; of equally near ones the first."""
    learnt = ngrams.learn(rows.texts, most_texts=RARE)
    if learnt is None:
        return [rows.targets[0]] * len(rows.asked)
    known, taught = learnt
    asked, across = known.weigh(rows.asked), taught.T.tocsr()
    step = max(1, CELLS // len(rows.texts))
    places: list[int] = []
    for start in range(0, len(rows.asked), step):
        places += _first_of_highest(asked[start : start + step] @ across)
    return [rows.targets[place] for place in places]


def _first_of_highest(similarity: Any) -> list[int]:
    """Per row the column of its highest value; 0 where the row is empty."""
    found = []
    for start, stop in zip(similarity.indptr[:-1], similarity.indptr[1:], strict=True):
        values, columns = similarity.data[start:stop], similarity.indices[start:stop]
        found.append(int(columns[values == values.max()].min()) if stop > start else 0)
    return found


ANSWERS: dict[str, tuple[tuple[Task, ...], Callable[[Rows], list[str]]]] = {
    "majority": (("classification",), majority),
    "linear": (("classification",), linear),
    "nearest": (tuple(task for task in TASKS if task != "classification"), nearest),
}
"""Baseline → the tasks that it fits, and what answers them."""


def baseline_answers(name: str, rows: Sequence[Record], train: Sequence[Record]) -> list[Answer]:
    """What a baseline that learns from the train rows answers, in the order of ``rows``.

    Args:
        name: One of `ANSWERS`.
    Raises:
        InputError: The target of a train row cannot be read.
    """
    tasks, answer = ANSWERS[name]
    said: dict[str, str] = {}
    for task in tasks:
        taught = [row for row in train if row.task == task]
        asked = [row for row in rows if row.task == task]
        if taught and asked:
            whole = len({row.head for row in taught}) > 1
            texts = answer(
                Rows(
                    [_text(row, whole) for row in taught],
                    [row.target for row in taught],
                    [f"{row.file}:{row.line}" for row in taught],
                    [_text(row, whole) for row in asked],
                )
            )
            said |= {row.id: text for row, text in zip(asked, texts, strict=True)}
    return [
        Answer(row.id, row.task, row.prompt, row.target, said[row.id], True)
        for row in rows
        if row.id in said
    ]


def baseline_scores(
    answers: Mapping[str, Sequence[Answer]],
    train: Sequence[Record],
    *,
    processes: int = 1,
    on_rows: Callable[[int], None] | None = None,
) -> list[BaselineScore]:
    """Every metric of every row of each baseline's answers, as the model's are scored.

    Args:
        processes: For the text metrics; no score depends on it.
    """
    return [
        BaselineScore(row.id, row.task, row.metric, row.numerator, row.denominator, name)
        for name, said in answers.items()
        for row in score_rows(said, train, processes=processes, on_rows=on_rows)
    ]


def add_to_card(card: dict[str, dict[str, Any]], scores: Iterable[BaselineScore]) -> None:
    """The values of the baselines' metrics: card[task]["baselines"][baseline][metric]."""
    columns: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in scores:
        parts = columns.setdefault((row.task, row.baseline, row.metric), [])
        parts.append((row.numerator, row.denominator))
    for (task, baseline, metric), parts in columns.items():
        card[task].setdefault("baselines", {}).setdefault(baseline, {})[metric] = ratio(parts)


def base_checkpoint(model: Path, scratch: Path) -> Path | None:
    """The untouched base of a trained model as a checkpoint that can answer, made of links.

    It is asked as the model is: by the model's own contract. None where there is no base: a model
    that was made in the run, and stored without what it was made from.

    Args:
        scratch: The folder to make.
    Raises:
        InputError: The base is not where it was when the model was trained.
    """
    from glmops.models.trained import BASE, LINEAGE, base_of

    lineage = read_json(model / LINEAGE)
    if not (model / BASE).is_dir() and "path" not in lineage.get("base", {}):
        return None
    base = base_of(model, lineage).resolve()
    with fresh_folder(scratch) as draft:
        for file in base.iterdir():
            if file.name != "contract.json":
                (draft / file.name).symlink_to(file)
        (draft / "contract.json").write_bytes((model / "contract.json").read_bytes())
    return scratch


def _text(row: Record, whole: bool) -> str:
    """What a row says: with its head (earlier turns, other instructions) where heads differ."""
    return row.head + row.body if whole else row.body
