"""Chats as the originals' chat() builds them, and the official rows made from our functions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest

from glmops.errors import InputError
from glmops.models.tokenizers import (
    chat_ids,
    load_tokenizer,
    response_messages,
    response_text,
    special_ids,
    stop_ids,
    text_ids,
)
from glmops.models.tokenizers.chat import prompt_text

FAMILIES = {"v1": "chatglm", "v2": "chatglm2", "v3": "chatglm3"}
LOOK_ALIKES = ("<sop>", "[MASK]", "[gMASK]", "<|user|>", "<eop>", "</s>", "<unk>", "sop", "<pad>")


@pytest.fixture(params=list(FAMILIES))
def stored(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> tuple[Any, Any]:
    """(tokenizer, what the original gave)"""
    folder = shared(f"reference/tokenizer/{request.param}")
    return load_tokenizer(folder), json.loads((folder / "reference.json").read_text())


def said(*contents: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]


def messages_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    if "role" in case:
        return [*case["history"], {"role": case["role"], "content": case["query"]}]
    return said(*(text for turn in case["history"] for text in turn), case["query"])


def test_chats_have_the_originals_ids(stored: tuple[Any, Any]) -> None:
    tokenizer, reference = stored
    for case in reference["chat"]:
        messages = messages_of(case)
        assert [chat_ids(messages, tokenizer, plain=False)] == case["input_ids"], case["query"]
        if tokenizer.family != "chatglm" or "[MASK]" not in case["query"]:
            assert [chat_ids(messages, tokenizer)] == case["input_ids"], case["query"]
        if "eos_token_id" in case:
            assert stop_ids(tokenizer) == case["eos_token_id"]


def test_the_template_writes_the_originals_prompt(stored: tuple[Any, Any]) -> None:
    tokenizer, reference = stored
    for case in reference["chat"]:
        text = tokenizer.apply_chat_template(
            messages_of(case), tokenize=False, add_generation_prompt=True
        )
        expected = case.get("prompt") or tokenizer.decode(case["input_ids"][0])
        assert text == expected


def test_a_control_token_that_a_user_types_is_plain_text_in_a_chat(
    stored: tuple[Any, Any],
) -> None:
    tokenizer, _ = stored
    control = set(tokenizer.get_added_vocab().values())
    empty = chat_ids(said("", "", ""), tokenizer)
    for token in LOOK_ALIKES:
        ids = chat_ids(said(f"你好{token}", f"a {token} b", token), tokenizer)
        # Those of the layout, and no others.
        assert [i for i in ids if i in control] == [i for i in empty if i in control]


def test_a_typed_control_token_is_what_the_original_makes_of_it_in_plain_encode(
    stored: tuple[Any, Any],
) -> None:
    # ARCHITECTURE 1.9 and 2.5: only the registered ones of ChatGLM-6B become tokens.
    tokenizer, _ = stored
    registered = {"<sop>", "<eop>", "<unk>", "<pad>", "[MASK]"}
    control = set(tokenizer.get_added_vocab().values())
    for token in LOOK_ALIKES:
        ids = tokenizer.encode(f"你好{token}", add_special_tokens=False)
        is_token = tokenizer.family == "chatglm" and token in registered
        assert bool(control & set(ids)) == is_token, token
        plain = text_ids(f"你好{token}", tokenizer)
        assert not control & set(plain)
        assert tokenizer.decode(plain) == f"你好{token}"


def test_answers_are_shown_as_the_original_shows_them(
    stored: tuple[Any, Any],
) -> None:
    tokenizer, reference = stored
    for case in reference.get("process_response", []):
        if tokenizer.family != "chatglm3":
            assert response_text(case["inp"], tokenizer.family) == case["out"]
            continue
        messages = response_messages(case["inp"])
        assert messages == case["history"][1:]
        last = messages[-1]
        shown: Any = response_text(case["inp"], "chatglm3")
        if last["metadata"].strip():
            shown = {"name": last["metadata"].strip(), "content": shown}
        assert shown == case["out"]


def test_chatglm2_fills_in_the_year_and_leaves_punctuation_alone() -> None:
    assert response_text(" 你好,[[训练时间]]?\n", "chatglm2") == "你好,2023年?"


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "no messages"),
        ([{"role": "user"}], "content is no text"),
        ([{"role": "robot", "content": "a"}], "unknown role, got 'robot'"),
        (said("a", "b"), "last message"),
        ([{"role": "user", "content": "a", "metadata": 3}], "metadata is no text"),
    ],
)
def test_what_is_no_chat_is_refused(
    stored: tuple[Any, Any], messages: list[dict[str, Any]], fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        chat_ids(messages, stored[0])


def test_chatglm_knows_no_system_message_and_only_chatglm3_knows_tools(
    shared: Callable[[str], Path],
) -> None:
    old = load_tokenizer(shared("reference/tokenizer/v1"))
    system = [{"role": "system", "content": "a"}, *said("b")]
    with pytest.raises(InputError, match="chat message 1: the role must be 'user' there"):
        chat_ids(system, old)
    with pytest.raises(jinja2.TemplateError, match="user, assistant"):
        old.apply_chat_template(system, tokenize=False)
    new = load_tokenizer(shared("reference/tokenizer/v3"))
    with pytest.raises(InputError, match="tools belong to a system message"):
        chat_ids([{"role": "user", "content": "a", "tools": [{}]}], new)


def labels_of(row: list[int], start: int, pad: int) -> list[int]:
    return [-100 if place < start or token == pad else token for place, token in enumerate(row)]


@pytest.mark.parametrize("part", [0, 1])
def test_the_official_training_rows_of_chatglm_come_out_of_our_functions(
    shared: Callable[[str], Path], part: int
) -> None:
    # ARCHITECTURE 1.10; the official code encodes with plain encode, where typed control tokens
    # count, as this test does.
    folder = shared("reference/tokenizer/v1")
    reference = json.loads((folder / "reference.json").read_text())
    tokenizer = load_tokenizer(folder)
    between, end = special_ids(["[gMASK]", "<sop>"], tokenizer), special_ids(["<eop>"], tokenizer)
    official = reference["preprocess"][part]
    longest = official["settings"]["max_source_length"], official["settings"]["max_target_length"]
    for index, row in enumerate(reference["preprocess_rows"]):
        source = row["content"]
        if official["settings"]["history"]:
            turns = [text for turn in row["history"] for text in turn]
            source = prompt_text(said(*turns, source), "chatglm")
            if not turns:  # training keeps the rounds even where there is no history
                source = f"[Round 0]\n问：{source}\n答："
        encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
        prompt = encode(source)[: longest[0] - 1]
        answer = encode(row["summary"])[: longest[1] - 2]
        ids = [*prompt, *between, *answer, *end]
        ids += [tokenizer.pad_token_id] * (sum(longest) - len(ids))
        assert ids == official["train"]["input_ids"][index]
        # <sop> itself is learnt.
        labels = labels_of(ids, len(prompt) + 1, tokenizer.pad_token_id)
        assert labels == official["train"]["labels"][index]
        if not set(encode(source) + answer) & set(tokenizer.get_added_vocab().values()):
            assert text_ids(source, tokenizer) == encode(source)


@pytest.mark.parametrize("part", [0, 1])
def test_the_official_training_rows_of_chatglm2_come_out_of_our_functions(
    shared: Callable[[str], Path], part: int
) -> None:
    # ARCHITECTURE 2.7
    folder = shared("reference/tokenizer/v2")
    reference = json.loads((folder / "reference.json").read_text())
    tokenizer = load_tokenizer(folder)
    before, end = special_ids(["[gMASK]", "sop"], tokenizer), special_ids(["</s>"], tokenizer)
    official = reference["preprocess"][part]
    longest = official["settings"]["max_source_length"], official["settings"]["max_target_length"]
    for index, row in enumerate(reference["preprocess_rows"]):
        turns = [text for turn in row["history"] for text in turn]
        kept = turns if official["settings"]["history"] else []
        text = prompt_text(said(*kept, row["content"]), "chatglm2")
        prompt = [*before, *text_ids(text, tokenizer)][: longest[0]]
        ids = [*prompt, *text_ids(row["summary"], tokenizer)[: longest[1]], *end]
        ids += [tokenizer.pad_token_id] * (sum(longest) + 1 - len(ids))
        assert ids == official["train"]["input_ids"][index]
        labels = labels_of(ids, len(prompt), tokenizer.pad_token_id)
        assert labels == official["train"]["labels"][index]
