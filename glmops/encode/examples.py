"""Prepared rows → the ids that the model trains on, thousands of rows at once.

A row is ``before`` prompt ``between`` answer ``end`` (contract.py). Its prompt has the ids that
``place_prompt`` gives, which are those that the model is given when it answers. They are found
faster here: the constant ends of a prompt and repeated answers are encoded once, the tokenizer is
called with many texts, and rows are put together as arrays. Only a prompt that is too long goes
through ``place_prompt`` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from glmops.contract import Contract
from glmops.encode.edges import Edges, Seam, beside_han, edges, no_seam, seam_of
from glmops.encode.pieces import ToIds, by_pieces
from glmops.encode.plan import Plan
from glmops.encode.ragged import Ragged, from_lists, side_by_side, stacked
from glmops.encode.streams import list_array
from glmops.errors import InputError
from glmops.models.tokenizers import PlacedPrompt, load_tokenizer, place_prompt
from glmops.templates import Prompt, turn_lengths

if TYPE_CHECKING:
    import pyarrow as pa

    from glmops.encode.ragged import Ints

ANSWER_TOO_LONG = "the answer and its end have "
TEXTS_AT_ONCE = 2048
"""The tokenizer's own account of a text is a hundred times larger than its ids."""

COLUMNS = ("head", "body", "cue", "turns", "target")

EncodeBatch = Callable[["pa.RecordBatch"], "pa.RecordBatch"]


def batch_encoder(plan: Plan) -> EncodeBatch:
    """A function from batches with text COLUMNS to batches with the columns

    - ``input_ids`` list<int32>: the whole row; empty for a refused one,
    - ``prompt_tokens`` int32: how many of them are the prompt's, which are not learnt,
    - ``cut`` int32: how many characters the prompt's body lost,
    - ``turns`` int32: how many of its earlier exchanges were left out,
    - ``reason`` string: why the row was refused; null for the others.
    """
    to_ids, seam = _text_encoder(plan)

    @cache
    def tokenizer() -> Any:  # as transformers has it: seconds to load, and seldom needed
        return load_tokenizer(plan.folder)

    return partial(_encode_batch, plan=plan, to_ids=to_ids, seam=seam, tokenizer=tokenizer)


def _text_encoder(plan: Plan) -> tuple[ToIds, Seam]:
    """Many texts → their ids, those of ``text_ids``; the seams of the tokenizer."""
    if not plan.rules:
        tokenizer = load_tokenizer(plan.folder)

        def through_class(texts: Sequence[str]) -> list[list[int]]:
            settings = {"add_special_tokens": False, "split_special_tokens": True}
            return tokenizer(list(texts), **settings, return_attention_mask=False).input_ids

        return partial(_in_portions, through_class), no_seam
    from tokenizers import Tokenizer

    rules, seam = Tokenizer.from_str(plan.rules), seam_of(plan.rules)
    rules.encode_special_tokens = True  # control tokens that are typed in a text stay text

    def directly(texts: Sequence[str]) -> list[list[int]]:
        return [each.ids for each in rules.encode_batch_fast(texts, add_special_tokens=False)]

    to_ids = partial(_in_portions, directly)
    return (by_pieces(to_ids) if seam is beside_han else to_ids), seam


def _in_portions(ids: Callable[[Sequence[str]], list[list[int]]], texts: Sequence[str]) -> Ragged:
    import numpy as np

    parts = [
        from_lists(ids(texts[start : start + TEXTS_AT_ONCE]))
        for start in range(0, len(texts), TEXTS_AT_ONCE)
    ]
    if not parts:
        return from_lists([])
    return Ragged(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _encode_batch(
    batch: pa.RecordBatch, *, plan: Plan, to_ids: ToIds, seam: Seam, tokenizer: Callable[[], Any]
) -> pa.RecordBatch:
    import numpy as np
    import pyarrow as pa

    prompts = _prompts(batch, plan, to_ids, seam)
    answers, answer_of = _answers(batch, plan, to_ids)
    long_prompts = np.flatnonzero(prompts.lengths > plan.contract.max_prompt_tokens).tolist()
    placed, reasons = _placed(batch, long_prompts, plan, tokenizer)
    long_answers = answers.lengths[answer_of] > plan.contract.max_answer_tokens
    for row in np.flatnonzero(long_answers).tolist():
        reasons.setdefault(row, _too_long(int(answers.lengths[answer_of[row]]), plan.contract))

    # Each row's parts by number; behind those of the batch stand the cut prompts and empty parts.
    prompt_of, lost = np.arange(len(batch)), np.zeros((2, len(batch)), np.int32)
    for number, (row, prompt) in enumerate(placed.items()):
        prompt_of[row], lost[:, row] = len(batch) + 1 + number, (prompt.cut, prompt.turns)
    refused = np.fromiter(reasons, np.int64, len(reasons))
    prompt_of[refused], answer_of[refused] = len(batch), len(answers.lengths)
    lost[:, refused] = 0
    prompts = stacked(prompts, from_lists([[], *(prompt.ids for prompt in placed.values())]))
    rows = side_by_side((prompts, prompt_of), (stacked(answers, from_lists([[]])), answer_of))
    return pa.record_batch(
        {
            "input_ids": list_array(rows),
            "prompt_tokens": pa.array(prompts.lengths[prompt_of], pa.int32()),
            "cut": pa.array(lost[0], pa.int32()),
            "turns": pa.array(lost[1], pa.int32()),
            "reason": pa.array(map(reasons.get, range(len(batch))), pa.string()),
        }
    )


def _placed(
    batch: pa.RecordBatch, rows: Sequence[int], plan: Plan, tokenizer: Callable[[], Any]
) -> tuple[dict[int, PlacedPrompt], dict[int, str]]:
    """The prompts of these rows, cut to fit; why some of them cannot be."""
    placed: dict[int, PlacedPrompt] = {}
    reasons: dict[int, str] = {}
    for row in rows:
        head, body, cue, turns = (batch.column(name)[row].as_py() for name in Prompt._fields)
        prompt = Prompt(head, body, cue, turn_lengths(turns))
        try:
            placed[row] = place_prompt(prompt, plan.contract, tokenizer())
        except InputError as error:  # its row is left out, listed and counted
            reasons[row] = error.what
    return placed, reasons


def _too_long(tokens: int, contract: Contract) -> str:
    return f"{ANSWER_TOO_LONG}{tokens} tokens, more than the {contract.max_answer_tokens} allowed"


def _prompts(batch: pa.RecordBatch, plan: Plan, to_ids: ToIds, seam: Seam) -> Ragged:
    """All prompts of the batch, control tokens included, however long they are."""
    import numpy as np

    parts, part_of = _constant_parts(batch, seam)
    texts = [
        parts[part].head + body + parts[part].cue
        for part, body in zip(part_of.tolist(), batch.column("body").to_pylist(), strict=True)
    ]
    ends = to_ids([part.start for part in parts] + [part.end for part in parts])
    before = from_lists([plan.before])
    between = from_lists([plan.between])
    first = np.zeros(len(batch), np.int64)
    return side_by_side(
        (before, first),
        (ends, part_of),
        (to_ids(texts), np.arange(len(batch))),
        (ends, part_of + len(parts)),
        (between, first),
    )


def _constant_parts(batch: pa.RecordBatch, seam: Seam) -> tuple[list[Edges], Ints]:
    """The different heads and cues of a batch, split at certain seams; which part each row has.

    Where nearly every row has a head of its own (a conversation), nothing is gained by splitting.
    """
    import numpy as np

    heads = batch.column("head").dictionary_encode()
    cues = batch.column("cue").dictionary_encode()
    pairs = heads.indices.to_numpy().astype(np.int64) * len(cues.dictionary)
    pairs += cues.indices.to_numpy()
    different, part_of = np.unique(pairs, return_inverse=True)
    if len(different) * 4 > len(batch):
        seam = no_seam
    parts = [
        edges(
            heads.dictionary[pair // len(cues.dictionary)].as_py(),
            cues.dictionary[pair % len(cues.dictionary)].as_py(),
            seam,
        )
        for pair in different.tolist()
    ]
    return parts, part_of.astype(np.int64)


def _answers(batch: pa.RecordBatch, plan: Plan, to_ids: ToIds) -> tuple[Ragged, Ints]:
    """The different answers of a batch with their end, and which of them each row has."""
    import numpy as np

    targets = batch.column("target").dictionary_encode()
    texts = to_ids(targets.dictionary.to_pylist())
    every = np.arange(len(texts.lengths))
    answers = side_by_side((texts, every), (from_lists([[plan.end]]), np.zeros_like(every)))
    return answers, targets.indices.to_numpy().astype(np.int64)
