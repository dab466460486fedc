"""Classification without writing: how likely the model finds each label that it was taught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from glmops.errors import InputError
from glmops.evaluate.answers import journal_of, prompts_of
from glmops.evaluate.engines import Checkpoint
from glmops.evaluate.reading import parse_label
from glmops.records import LabelLikelihood, Record


def label_likelihoods(
    checkpoint: Checkpoint,
    records: Sequence[Record],
    train: Sequence[Record],
    *,
    batch_size: int,
    work: Path | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> list[LabelLikelihood]:
    """Each taught label of each classification row: rows in their order, labels in theirs.

    A label counts as the text that the model was taught to write for it, up to and with the token
    that ends an answer. A label that is longer than the contract's answers was not taught: encode
    left its rows out, and said so. None without classification rows, or where no label was taught.

    Args:
        train: What the model was taught on.
        batch_size: As in `answer_with`; it changes no value by more than rounding.
        work: As in `answer_with`.
        on_rows: Called with the number of rows just done.
    Raises:
        InputError: A taught label cannot be read, a prompt leaves no room for the longest label,
            or the model's numbers are no numbers.
        MachineError: Finished rows could not be kept.
    """
    from glmops.models.generation import plan_batches

    rows = [record for record in records if record.task == "classification"]
    written = label_texts(train)
    if not rows or not written:
        return []
    engine, prompts = checkpoint.engine, prompts_of(rows, checkpoint)
    by_label = {
        label: [_ending(texts[label], checkpoint) for texts in written.values()]
        for label in sorted(written[""])
    }
    most = checkpoint.contract.max_answer_tokens
    labels = [label for label, forms in by_label.items() if max(map(len, forms)) <= most]
    if not labels:
        return []
    endings = {
        template: [by_label[label][place] for label in labels]
        for place, template in enumerate(written)
    }
    longest = max(len(ids) for ending in endings.values() for ids in ending)
    engine.require_room(prompts, longest)
    size = batch_size * engine.rows_at_once
    journal = journal_of(
        work, "likelihoods", checkpoint, rows, batch_size=size, endings=endings, labels=labels
    )
    weights = journal.read()
    # Rows of one template were taught to write a label alike.
    templates = sorted(endings)
    kinds = [templates.index(_template(row, written)) for row in rows]
    for batch in plan_batches([len(prompt) for prompt in prompts], longest, size, kinds):
        if not all(place in weights for place in batch):
            ending = endings[templates[kinds[batch[0]]]]
            made = engine.weigh([prompts[place] for place in batch], ending)
            finished = dict(zip(batch, made, strict=True))
            _require_numbers(finished, checkpoint, rows)
            journal.append(finished)
            weights.update(finished)
        if on_rows:
            on_rows(len(batch))
    return [
        LabelLikelihood(row.id, label, weight)
        for place, row in enumerate(rows)
        for label, weight in zip(labels, weights[place], strict=True)
    ]


def label_texts(train: Sequence[Record]) -> dict[str, dict[str, str]]:
    """Template → label → the text that stands for it in a target; "" for a template not named.

    Of several texts for one label the commonest of the template, or else of all rows, and of
    equally common ones the first in order.

    Raises:
        InputError: A target does not read as a label.
    """
    counts: dict[str, dict[str, Counter[str]]] = {"": {}}
    for row in train:
        if row.task != "classification":
            continue
        label = parse_label(row.target)
        if label is None:
            raise InputError(
                f"{row.file}:{row.line}",
                'expected a label, bare or as ["label"]',
                got=row.target,
                do="Repair the row's target.",
            )
        for template in {"", row.template}:
            counts.setdefault(template, {}).setdefault(label, Counter())[row.target] += 1
    if not counts[""]:
        return {}
    anywhere = {label: _commonest(texts) for label, texts in counts[""].items()}
    return {
        template: {**anywhere, **{label: _commonest(texts) for label, texts in by_label.items()}}
        for template, by_label in sorted(counts.items())
    }


def _commonest(texts: Counter[str]) -> str:
    return min(texts, key=lambda text: (-texts[text], text))


def _template(row: Record, written: dict[str, dict[str, str]]) -> str:
    return row.template if row.template in written else ""


def _ending(text: str, checkpoint: Checkpoint) -> list[int]:
    """Ids of an answer as it is trained, with its end."""
    from glmops.models.tokenizers import special_ids, text_ids

    end = special_ids([checkpoint.contract.end], checkpoint.tokenizer)
    return [*text_ids(text, checkpoint.tokenizer), *end]


def _require_numbers(
    weights: dict[int, list[float]], checkpoint: Checkpoint, rows: Sequence[Record]
) -> None:
    for place, values in weights.items():
        if any(value != value for value in values):
            raise InputError(
                checkpoint.folder,
                f"the likelihood of a label is not a number for row {rows[place].id}",
                got="NaN",
                do="Train again: its weights are damaged, or their precision is too low.",
            )
