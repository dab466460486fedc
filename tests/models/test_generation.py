from __future__ import annotations

from typing import Any

import pytest
import torch

import toy_model as toy
from glmops.errors import InputError
from glmops.models.generation import Generated, generate_batches, plan_batches
from glmops.models.tokenizers import prompt_ids

PROMPTS = [
    prompt_ids(toy.prompt(body), toy.contract(), toy.tokenizer())
    for body in ("雪山", "第3天我看见了天空。", "炭", "草地草地草地草地", "第1天", "天空和雪山")
]
STOP = ("<|user|>",)


def _written(model: Any, prompts: list[list[int]], **changes: Any) -> list[Generated]:
    options = {"stop": STOP, "max_new_tokens": 12, "batch_size": 4, **changes}
    return generate_batches(model, toy.tokenizer(), prompts, **options)


def _by_hand(model: Any, prompt: list[int], count: int) -> list[int]:
    """The oracle: the whole row through the model for each token; no cache, padding or mask."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(
                int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
            )
    return ids[len(prompt) :]


def test_each_answer_is_the_most_likely_next_token_over_and_over() -> None:
    model = toy.model()
    answers = _written(model, PROMPTS)
    assert [list(each.ids) for each in answers] == [_by_hand(model, p, 12) for p in PROMPTS]
    assert len({each.ids for each in answers}) > 1  # else the order below proves nothing


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_an_answer_does_not_depend_on_its_neighbours(batch_size: int) -> None:
    model = toy.model()
    assert _written(model, PROMPTS, batch_size=batch_size) == _written(model, PROMPTS)
    assert _written(model, PROMPTS[::-1], batch_size=batch_size)[::-1] == _written(model, PROMPTS)


def test_an_answer_ends_before_its_stop_token() -> None:
    model, tokenizer = toy.model(), toy.tokenizer()
    stop = tokenizer.get_added_vocab()[STOP[0]]
    before = _by_hand(model, PROMPTS[1], 12)
    ending = before[5]
    assert stop not in before
    # Tied embeddings: with two rows exchanged the model writes the stop token where it wrote the
    # other one, and nothing else changes as long as neither was read before.
    assert ending not in PROMPTS[1]
    weights = model.get_input_embeddings().weight.data
    weights[[stop, ending]] = weights[[ending, stop]]
    [answer] = _written(model, [PROMPTS[1]])
    assert list(answer.ids) == before[: before.index(ending)]
    assert answer.text == tokenizer.decode(answer.ids, skip_special_tokens=True)
    assert answer.finished


def test_an_answer_that_ran_out_of_tokens_is_not_finished() -> None:
    answers = _written(toy.model(), PROMPTS, max_new_tokens=3)
    assert [len(each.ids) for each in answers] == [3] * len(PROMPTS)
    assert not any(each.finished for each in answers)


def test_every_row_is_reported_as_it_is_done() -> None:
    done: list[int] = []
    _written(toy.model(), PROMPTS, on_batch=done.append)
    assert done == [4, 2]  # six prompts in batches of four


def test_no_prompts_give_no_answers_and_an_empty_one_is_refused() -> None:
    assert _written(toy.model(), []) == []
    with pytest.raises(InputError, match=r"prompt 2: has no tokens"):
        _written(toy.model(), [[5], []])


def test_rows_of_like_length_share_a_batch_and_the_longest_come_first() -> None:
    # Two rows of 10 + 2 tokens are 24: as many as three of 6 + 2 or six of 2 + 2.
    lengths = [2, 10, 6, 2, 10, 2, 6, 2, 6, 2, 2, 2]
    assert plan_batches(lengths, 2, 2) == [[1, 4], [2, 6, 8], [0, 3, 5, 7, 9, 10], [11]]


def test_short_rows_are_at_most_four_times_as_many_and_one_stays_one() -> None:
    assert [len(batch) for batch in plan_batches([1000] + [1] * 20, 1, 2)] == [2, 8, 8, 3]
    assert plan_batches([5, 1, 1], 1, 1) == [[0], [1], [2]]
    assert plan_batches([], 1, 8) == []


def test_rows_of_different_kinds_do_not_share_a_batch() -> None:
    assert plan_batches([4, 4, 4, 4], 1, 8, [1, 0, 1, 0]) == [[1, 3], [0, 2]]
