"""The likelihood of labels for rows of a checkpoint; the oracle reads each row and label alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glmops.errors import InputError
from glmops.evaluate.engines import open_checkpoint
from glmops.evaluate.likelihood import label_likelihoods, label_texts
from glmops.models import load
from glmops.models.tokenizers import prompt_ids, text_ids
from glmops.records import Record
from glmops.templates import prompt_of

LABELS = ["水果", "衣服", "酒店"]


def test_each_row_has_the_likelihood_of_each_taught_label_with_its_end(
    checkpoint: Path, rows: list[Record], train: list[Record]
) -> None:
    opened = open_checkpoint(checkpoint)
    found = label_likelihoods(opened, rows, train, batch_size=2)
    to_classify = [row for row in rows if row.task == "classification"]
    assert [(each.id, each.label) for each in found] == [
        (row.id, label) for row in to_classify for label in LABELS
    ]
    model, tokenizer = load(checkpoint)
    [end] = tokenizer.convert_tokens_to_ids(["<|endoftext|>"])
    expected = []
    for row in to_classify:
        prompt = prompt_ids(prompt_of(row), opened.contract, tokenizer)
        for label in LABELS:
            answer = [*text_ids(f'["{label}"]', tokenizer), end]
            with torch.no_grad():
                logits = model(torch.tensor([prompt + answer]), use_cache=False).logits[0]
            said = logits.double().log_softmax(-1)[len(prompt) - 1 : -1]
            expected.append(float(said.gather(-1, torch.tensor(answer)[:, None]).sum()))
    got = [each.log_probability for each in found]
    assert got == pytest.approx(expected, rel=2e-6)
    assert max(expected) - min(expected) > 1


def test_the_batch_size_does_not_change_a_likelihood(
    checkpoint: Path, rows: list[Record], train: list[Record]
) -> None:
    opened = open_checkpoint(checkpoint)
    one, all_at_once = (
        [each.log_probability for each in label_likelihoods(opened, rows, train, batch_size=size)]
        for size in (1, 64)
    )
    assert one == pytest.approx(all_at_once, rel=2e-6)


def test_a_label_counts_as_the_text_that_its_template_writes(train: list[Record]) -> None:
    bare = [replace(row, template="bare", target=row.target[2:-2]) for row in train[:2]]
    listed = [replace(row, template="list") for row in train[2:]]
    texts = label_texts([*bare, *listed])
    assert texts["bare"] == {"酒店": "酒店", "水果": "水果", "衣服": '["衣服"]'}
    assert texts["list"] == {label: f'["{label}"]' for label in LABELS}
    # Over all rows each form of 水果 and 酒店 stands once, and the first in order is taken.
    assert texts[""] == {"水果": '["水果"]', "衣服": '["衣服"]', "酒店": '["酒店"]'}


def test_rows_of_two_templates_are_asked_for_the_texts_of_their_own(
    checkpoint: Path, rows: list[Record], train: list[Record]
) -> None:
    opened = open_checkpoint(checkpoint)
    bare = [replace(row, template="bare", target=row.target[2:-2]) for row in train[:5]]
    listed = [replace(row, template="list") for row in train[:5]]
    names = ("bare", "list", "list", "bare")
    mixed = [
        replace(row, template=name)
        for row, name in zip([r for r in rows if r.task == "classification"], names, strict=True)
    ]
    found = label_likelihoods(opened, mixed, [*bare, *listed], batch_size=4)
    alone = []
    for row in mixed:
        taught = bare if row.template == "bare" else listed
        alone += label_likelihoods(opened, [row], taught, batch_size=4)
    assert [(e.id, e.label) for e in found] == [(e.id, e.label) for e in alone]
    ours, theirs = ([each.log_probability for each in some] for some in (found, alone))
    assert ours == pytest.approx(theirs, rel=2e-6)


def test_without_classification_there_is_nothing_to_weigh(
    checkpoint: Path, rows: list[Record], train: list[Record]
) -> None:
    opened = open_checkpoint(checkpoint)
    triples = [row for row in rows if row.task == "triples"]
    assert label_likelihoods(opened, triples, train, batch_size=4) == []
    untaught = [row for row in train if row.task == "triples"]
    assert label_likelihoods(opened, rows, untaught, batch_size=4) == []


def test_a_label_longer_than_an_answer_was_never_taught(
    checkpoint: Path, rows: list[Record], train: list[Record]
) -> None:
    opened = open_checkpoint(checkpoint)
    too_long = replace(train[0], target=f'["{"很长" * 40}"]')
    assert len(text_ids(too_long.target, opened.tokenizer)) > opened.contract.max_answer_tokens
    with_it = label_likelihoods(opened, rows, [*train, too_long], batch_size=4)
    assert with_it == label_likelihoods(opened, rows, train, batch_size=4)
    assert label_likelihoods(opened, rows, [too_long], batch_size=4) == []


def test_a_taught_label_that_cannot_be_read_is_named(train: list[Record]) -> None:
    with pytest.raises(InputError, match=r"a:2: expected a label.*got '\[\"水果\"'"):
        label_texts([train[0], replace(train[1], target='["水果"')])


def test_numbers_that_are_none_are_refused(
    checkpoint: Path, rows: list[Record], train: list[Record]
) -> None:
    opened = open_checkpoint(checkpoint)
    opened.engine.model.get_input_embeddings().weight.data[:] = float("nan")
    with pytest.raises(InputError, match="the likelihood of a label is not a number for row r2"):
        label_likelihoods(opened, rows, train, batch_size=4)
