from __future__ import annotations

import json
from typing import Any

import pytest

import toy_model as toy
import toy_tokenizers as tokenizers
from glmops.encode.edges import Edges, edges, no_seam, seam_of
from glmops.encode.pieces import by_pieces
from glmops.encode.ragged import Ragged, from_lists
from glmops.models.tokenizers import load_tokenizer, text_ids, train_tokenizer

PROMPTS = [
    ("下面是一条新闻标题。\n标题：", "\n类别："),
    (toy.HEAD, toy.CUE),
    ("问：", "\n答："),
    ("只有汉字", "汉字在先"),
    ("", "|"),
    ("Title: ", "\nLabel: "),
    ("引号'", "'引号"),
]
KINDS = ["han", "glm4", "gpt2"]


def _tokenizer(kind: str) -> Any:
    return toy.tokenizer() if kind == "han" else tokenizers.letter_runs(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_ends_that_are_encoded_on_their_own_give_the_ids_of_the_whole_prompt(kind: str) -> None:
    tokenizer = _tokenizer(kind)
    seam = seam_of(tokenizer.backend_tokenizer.to_str())
    for head, cue in PROMPTS:
        start, rest, first, end = edges(head, cue, seam)
        assert (start + rest, first + end) == (head, cue)
        for body in tokenizers.hard_texts(150):
            parts = (start, rest + body + first, end)
            ids = [token for part in parts for token in text_ids(part, tokenizer)]
            assert ids == text_ids(head + body + cue, tokenizer), (head, body)


def test_the_longest_ends_are_found() -> None:
    seams = {kind: seam_of(_tokenizer(kind).backend_tokenizer.to_str()) for kind in KINDS}
    head, cue = PROMPTS[0]
    assert edges(head, cue, seams["han"]) == Edges(
        "下面是一条新闻标题。\n标题", "：", "\n", "类别："
    )
    assert edges(head, cue, seams["glm4"]) == Edges(
        "下面是一条新闻标题。\n标题", "：", "\n类别", "："
    )
    assert edges("只有汉字", "", seams["han"]).start == "只有汉字"
    assert edges("只有汉字", "", seams["gpt2"]).start == ""  # a letter may follow
    assert edges("引号'", "", seams["glm4"]).start == ""  # 's is a piece


def test_without_a_seam_a_token_does_reach_across() -> None:
    # The counterpart: were "：" cut off from a body of punctuation, other ids would come out.
    tokenizer = train_tokenizer(["题：（甲）"] * 50, 300)
    whole = text_ids("题：（甲", tokenizer)
    assert whole != text_ids("题：", tokenizer) + text_ids("（甲", tokenizer)


def test_tokenizers_with_rules_of_their_own_have_no_seams(shared: Any) -> None:
    for folder in tokenizers.ORIGINAL.values():
        rules = load_tokenizer(shared(folder)).backend_tokenizer.to_str()
        assert seam_of(rules) is no_seam


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "NFKC"}},
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"added_tokens": [{"content": "汉字", "special": False}]},
        {"model": {"type": "Unigram"}},
        {"model": {"type": "BPE", "dropout": 0.1}},
    ],
)
def test_a_rule_that_could_join_or_change_characters_rules_seams_out(change: Any) -> None:
    rules = json.loads(toy.tokenizer().backend_tokenizer.to_str())
    assert seam_of(json.dumps(rules)) is not no_seam
    assert seam_of(json.dumps({**rules, **change})) is no_seam


def test_ids_by_piece_are_the_ids_of_the_text() -> None:
    def plain(texts: Any) -> Ragged:
        return from_lists([text_ids(text, toy.tokenizer()) for text in texts])

    quick = by_pieces(plain)
    texts = tokenizers.hard_texts(500)
    for portion in (texts, texts[:1], ["", ""], ["草", "", "地"], []):
        ids = quick(portion)
        expected = plain(portion)
        assert ids.values.tolist() == expected.values.tolist()
        assert ids.lengths.tolist() == expected.lengths.tolist()
