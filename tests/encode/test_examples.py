from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import naive_encode as naive
import toy_model as toy
import toy_tokenizers as tokenizers
from glmops.contract import LAYOUTS, Contract, contract_for
from glmops.encode.examples import batch_encoder
from glmops.encode.plan import guess_plan, make_plan
from glmops.errors import InputError
from glmops.models.tokenizers import prompt_ids, special_ids, text_ids
from glmops.templates import TEMPLATES, Prompt

# X prompt, Y answer. Source: knowledge/fine-tuning-frameworks.md 5.1 (GLM-4 without chat roles)
# and reference/ARCHITECTURE.md 1.9, 2.5 and 2.7.
LAID_OUT = {
    "glm": "[gMASK] <sop> X Y <|endoftext|>",
    "gpt": "X Y <|endoftext|>",
    "chatglm": "X [gMASK] <sop> Y <eop>",
    "chatglm2": "[gMASK] sop X Y </s>",
    "chatglm3": "[gMASK] sop X Y </s>",
}
FAMILIES = list(LAID_OUT)
ROW = toy.RECORDS[0]
PROMPT = toy.prompt(ROW.body)

Row = tuple[Prompt, str]


def _contract(family: str, prompt: int = 64, answer: int = 24) -> Contract:
    return contract_for(
        ["context-target"], family, max_prompt_tokens=prompt, max_answer_tokens=answer
    )


def _encode(rows: list[Row], contract: Contract, tokenizer: Any, folder: Path) -> list[Any]:
    """(ids, mask, cut) of each row, or the reason why there are none."""
    tokenizer.save_pretrained(str(folder))
    columns = {
        "head": [prompt.head for prompt, _ in rows],
        "body": [prompt.body for prompt, _ in rows],
        "cue": [prompt.cue for prompt, _ in rows],
        "turns": [",".join(map(str, prompt.turns)) for prompt, _ in rows],
        "target": [target for _, target in rows],
    }
    encode = batch_encoder(make_plan(contract, folder))
    made = []
    for row in encode(pa.record_batch(columns)).to_pylist():
        ids, prompt = row["input_ids"], row["prompt_tokens"]
        mask = [0] * prompt + [1] * (len(ids) - prompt)
        assert row["reason"] is None or not (ids or prompt or row["cut"])
        made.append(row["reason"] or (ids, mask, row["cut"]))
    return made


def _naively(rows: list[Row], contract: Contract, tokenizer: Any) -> list[Any]:
    made: list[Any] = []
    for prompt, target in rows:
        try:
            made.append(naive.encode_row(prompt, target, contract, tokenizer))
        except InputError as error:
            made.append(error.what)
    return made


def _toy_row(tokenizer: Any, folder: Path, contract: Contract, *row: Any) -> Any:
    return _encode([row], contract, tokenizer, folder)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_holds_what_each_row_gives_alone(family: str, shared: Any, tmp_path: Path) -> None:
    tokenizer = tokenizers.of_family(family, shared)
    draw = random.Random(1)
    texts = tokenizers.hard_texts(120)
    heads = [("", ""), (toy.HEAD, toy.CUE), ("问：", "\n\n答："), ("题\n", "|"), ("长" * 70, "")]
    turns = {toy.HEAD: (9, 4), "长" * 70: (30, 10)}  # as if they began with earlier exchanges
    rows = []
    for _ in range(200):
        head, cue = draw.choice(heads)
        body = "".join(draw.choices(texts, k=draw.choice((0, 1, 1, 2, 8))))
        past = turns.get(head, ()) if draw.random() < 0.5 else ()
        rows.append((Prompt(head, body, cue, past), draw.choice(texts[:30])))
    contract = _contract(family)
    made = _encode(rows, contract, tokenizer, tmp_path)
    expected = _naively(rows, contract, tokenizer)
    for one, other in zip(made, expected, strict=True):
        assert one == other or (isinstance(one, str) and one.startswith(str(other)))
    # What the rows were drawn for is in them: whole rows, cut ones, and both kinds of refusal.
    assert {type(each) for each in made} == {tuple, str}
    assert any(each[2] for each in made if isinstance(each, tuple))
    assert any(each[2] == 0 for each in made if isinstance(each, tuple))
    reasons = "".join(each for each in made if isinstance(each, str))
    assert "the answer and its end" in reasons
    assert "the prompt without its body" in reasons


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_is_laid_out_as_its_family_wants_it(family: str, shared: Any, tmp_path: Path) -> None:
    tokenizer = tokenizers.of_family(family, shared)
    prompt, target = Prompt("问：", "草地是什么颜色？", "\n答："), "绿色"
    ids, mask, cut = _toy_row(tokenizer, tmp_path, _contract(family), prompt, target)

    texts = {"X": "问：草地是什么颜色？\n答：", "Y": "绿色"}
    expected = []
    for name in LAID_OUT[family].split():
        known = name in texts
        expected += text_ids(texts[name], tokenizer) if known else special_ids([name], tokenizer)
    assert (ids, cut) == (expected, 0)
    learnt = [token for token, mark in zip(ids, mask, strict=True) if mark]
    assert learnt == [*text_ids("绿色", tokenizer), ids[-1]]
    assert set(LAYOUTS) == set(LAID_OUT)


@pytest.mark.parametrize("family", FAMILIES)
def test_control_tokens_that_are_typed_in_a_row_stay_text(
    family: str, shared: Any, tmp_path: Path
) -> None:
    tokenizer = tokenizers.of_family(family, shared)
    typed = "<sop>[gMASK]</s><eop><|endoftext|>sop"
    row = (Prompt("", typed, ""), typed)
    ids, _, _ = _toy_row(tokenizer, tmp_path, _contract(family, 200, 200), *row)
    layout = LAYOUTS[family]
    around = [*layout.before, *layout.between, layout.end]
    control = set(tokenizer.added_tokens_decoder)
    assert [token for token in ids if token in control] == special_ids(around, tokenizer)


def test_training_and_answering_see_the_same_prompt(tmp_path: Path) -> None:
    ids, mask, _ = _toy_row(toy.tokenizer(), tmp_path, toy.contract(), PROMPT, ROW.target)
    asked = prompt_ids(PROMPT, toy.contract(), toy.tokenizer())
    assert ids[: len(asked)] == asked
    assert mask.index(1) == len(asked)


def test_an_answer_is_never_cut(tmp_path: Path) -> None:
    tokens = len(text_ids(ROW.target, toy.tokenizer())) + 1  # and its end
    row = (toy.tokenizer(), tmp_path, toy.contract(64, tokens), PROMPT, ROW.target)
    assert sum(_toy_row(*row)[1]) == tokens
    reason = _toy_row(*row[:2], toy.contract(64, tokens - 1), *row[3:])
    assert (
        reason == f"the answer and its end have {tokens} tokens, more than the {tokens - 1} allowed"
    )


def test_a_long_prompt_loses_the_end_of_its_body_and_nothing_else(tmp_path: Path) -> None:
    contract = toy.contract(50)
    ids, mask, cut = _toy_row(
        toy.tokenizer(), tmp_path, contract, toy.prompt("草" * 200), ROW.target
    )
    kept = toy.HEAD + "草" * (200 - cut) + toy.CUE
    assert toy.tokenizer().decode(ids) == f"[gMASK]<sop>{kept}{ROW.target}<|endoftext|>"
    assert 47 <= mask.index(1) <= 50  # 草 has at most three tokens


def test_a_long_history_loses_whole_exchanges_oldest_first_and_only_then_the_body_is_cut(
    tmp_path: Path,
) -> None:
    tokenizer, past = toy.tokenizer(), [("草地是什么颜色？" * n, "绿") for n in (4, 1, 2)]
    fields = {"instruction": "雪山呢？" * 6, "input": "", "output": "白", "history": past}
    prompt = TEMPLATES["instruction"].prompt(fields)
    said = [f"问：{question}\n答：{answer}\n" for question, answer in past]
    asked, seen = f"问：{'雪山呢？' * 6}\n答：", set()
    tokenizer.save_pretrained(str(tmp_path))
    batch = [
        {**prompt._asdict(), "turns": ",".join(map(str, prompt.turns)), "target": fields["output"]}
    ]
    for limit in range(30, len(text_ids("".join(said) + asked, tokenizer)) + 5):
        contract = contract_for(
            ["instruction"], "glm", max_prompt_tokens=limit, max_answer_tokens=9
        )
        encode = batch_encoder(make_plan(contract, tmp_path))
        (row,) = encode(pa.RecordBatch.from_pylist(batch)).to_pylist()
        prompt_ids_ = row["input_ids"][: row["prompt_tokens"]]
        # Answering goes by the same rule: a model sees what it was trained on.
        assert prompt_ids_ == prompt_ids(contract.prompt(fields), contract, tokenizer)
        body = fields["instruction"][: 24 - row["cut"]]
        kept = "".join(said[row["turns"] :]) + f"问：{body}\n答："
        assert tokenizer.decode(prompt_ids_) == f"[gMASK]<sop>{kept}"
        # Nothing goes that could have stayed: with one exchange more it would not have fitted.
        if row["turns"]:
            more = "".join(said[row["turns"] - 1 :]) + asked
            assert len(text_ids(more, tokenizer)) + 2 > limit
        assert row["cut"] == 0 or row["turns"] == 3
        assert tokenizer.decode(row["input_ids"]).endswith("\n答：白<|endoftext|>")
        seen.add((row["turns"], row["cut"] > 0))
    assert seen == {(3, True), (3, False), (2, False), (1, False), (0, False)}


def test_a_question_that_alone_is_too_long_is_refused(tmp_path: Path) -> None:
    reason = _toy_row(toy.tokenizer(), tmp_path, toy.contract(12), PROMPT, ROW.target)
    assert reason.startswith("the prompt without its body has ")


def test_a_tokenizer_of_another_family_is_refused(tmp_path: Path) -> None:
    contract = _contract("chatglm2")
    toy.tokenizer().save_pretrained(str(tmp_path))
    assert guess_plan(contract, tmp_path) is None
    with pytest.raises(InputError, match=r"control token is not in it, got '</s>'"):
        make_plan(contract, tmp_path)


def test_a_guess_is_right_for_plain_tokenizers_and_none_for_others(
    shared: Any, tmp_path: Path
) -> None:
    for family, plain in (("glm", True), ("gpt", True), ("chatglm", False), ("chatglm2", False)):
        tokenizers.of_family(family, shared).save_pretrained(str(tmp_path / family))
        guess = guess_plan(_contract(family), tmp_path / family)
        assert guess == (make_plan(_contract(family), tmp_path / family) if plain else None)
