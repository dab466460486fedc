"""``place_prompt`` on the original families: every text fits, and nothing but the body is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatglm_text import nasty
from glmops.contract import LAYOUTS, Contract
from glmops.errors import InputError
from glmops.models.tokenizers import load_tokenizer, place_prompt, special_ids, text_ids
from glmops.templates import Prompt

FAMILIES = {"v1": "chatglm", "v1-official": "chatglm", "v2": "chatglm2", "v3": "chatglm3"}
HEAD, CUE = "问题：", "\n答案："


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> tuple[Any, str]:
    folder = shared(f"reference/tokenizer/{request.param}")
    return load_tokenizer(folder), FAMILIES[request.param]


def contract(family: str, limit: int) -> Contract:
    """A contract with a family's layout; of its other fields ``place_prompt`` knows nothing."""
    layout = LAYOUTS[family]
    return Contract.model_construct(
        family=family, before=layout.before, between=layout.between, max_prompt_tokens=limit
    )


BODIES = ["你好，世界！" * 30, "hello\n\n   world " * 20, "e\u0301ｅ\u0301\u200d👨\u200d👩" * 12]


@pytest.mark.parametrize("body", [*BODIES, *nasty(40, 12)])
def test_a_prompt_is_cut_at_whole_characters_and_has_the_ids_of_what_is_kept(
    family: tuple[Any, str], body: str
) -> None:
    tokenizer, name = family
    layout = LAYOUTS[name]
    before, between = (special_ids(tokens, tokenizer) for tokens in (layout.before, layout.between))
    around = len(before) + len(between)
    shortest = len(text_ids(HEAD + CUE, tokenizer)) + around
    full = len(text_ids(HEAD + body + CUE, tokenizer)) + around
    for limit in {shortest + 3, max(shortest + 3, full // 2), full - 1, full}:
        if limit < shortest:
            continue
        placed = place_prompt(Prompt(HEAD, body, CUE), contract(name, limit), tokenizer)
        kept = body[: len(body) - placed.cut]
        assert placed.ids == [*before, *text_ids(HEAD + kept + CUE, tokenizer), *between]
        assert len(placed.ids) <= limit
        assert (placed.cut == 0) == (full <= limit)
        # One character is at most 18 tokens here (U+FDFA, spelt out), ordinary ones at most 4.
        assert not placed.cut or len(placed.ids) > limit - 20


def test_control_tokens_in_a_prompt_are_plain_text(family: tuple[Any, str]) -> None:
    tokenizer, name = family
    layout = LAYOUTS[name]
    control = set(tokenizer.get_added_vocab().values())
    for token in ("<sop>", "[gMASK]", "[MASK]", "<eop>", "</s>", "<|user|>"):
        placed = place_prompt(Prompt("", token, token), contract(name, 500), tokenizer)
        found = [index for index in placed.ids if index in control]
        assert found == special_ids((*layout.before, *layout.between), tokenizer)


def test_the_end_of_an_answer_is_a_known_token(family: tuple[Any, str]) -> None:
    tokenizer, name = family
    assert special_ids([LAYOUTS[name].end], tokenizer) == [tokenizer.eos_token_id]


def test_a_head_that_does_not_fit_is_refused(family: tuple[Any, str]) -> None:
    tokenizer, name = family
    with pytest.raises(InputError, match=r"row 3: the prompt without its body has \d+ tokens"):
        place_prompt(Prompt(HEAD, "a", CUE), contract(name, 4), tokenizer, "row 3")
