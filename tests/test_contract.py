"""The contract: a prompt in three parts, one hash, and a refusal that names both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from glmops.contract import contract_for, load_contract, require_same
from glmops.errors import InputError, IntegrityError, RecipeError
from glmops.templates import TEMPLATES

SIZES = {"max_prompt_tokens": 9, "max_answer_tokens": 9}


@pytest.mark.parametrize(
    ("context", "parts"),
    [
        (
            "Instruction: 读。\nInput: 问？\n\n句子。\nAnswer: ",
            ("Instruction: 读。\nInput: 问？\n\n", "句子。", "\nAnswer: "),
        ),
        (
            "Instruction: 读。\nInput: 问\n再问\n\n句。\n\n又一段。\nAnswer:",
            ("Instruction: 读。\nInput: 问\n再问\n\n", "句。\n\n又一段。", "\nAnswer:"),
        ),
        ("Instruction: a\nInput: b\nAnswer: ", ("Instruction: a\nInput: ", "b", "\nAnswer: ")),
        ("just a question", ("", "just a question", "")),
        ("Input: b\nAnswer: ", ("", "Input: b\nAnswer: ", "")),
    ],
)
def test_a_context_splits_into_head_body_and_cue(context: str, parts: tuple[str, ...]) -> None:
    assert TEMPLATES["context-target"].prompt({"context": context})[:3] == parts
    assert "".join(parts) == context


def test_a_contract_reads_back_with_the_same_hash(tmp_path: Path) -> None:
    contract = contract_for(["context-target"], "glm", **SIZES)
    contract.save(tmp_path)
    assert load_contract(tmp_path) == contract
    assert load_contract(tmp_path).hash() == contract.hash()


def test_another_limit_is_another_hash_and_both_sides_are_named() -> None:
    mine = contract_for(["context-target"], "glm", **SIZES)
    theirs = mine.model_copy(update={"max_prompt_tokens": 8})
    assert mine.hash() != theirs.hash()
    with pytest.raises(IntegrityError, match=r"data / model: .*max_prompt_tokens \(9 / 8\)"):
        require_same(mine, theirs, my_name="data", their_name="model")


def test_a_template_that_says_something_else_now_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract_for(["ad-text"], "glm", **SIZES).save(tmp_path)
    monkeypatch.setitem(TEMPLATES, "ad-text", replace(TEMPLATES["ad-text"], cue="!"))
    with pytest.raises(IntegrityError, match="the template ad-text is not the one that the model"):
        load_contract(tmp_path)


def test_of_several_templates_one_is_named() -> None:
    both = contract_for(["paper-label", "paper-keywords"], "glm", **SIZES)
    row = {"title": "t", "abstract": "a"}
    assert both.prompt(row, "paper-keywords").cue == "\nKeywords: "
    with pytest.raises(InputError, match="Name one of paper-keywords, paper-label"):
        both.prompt(row)
    with pytest.raises(RecipeError, match=r"unknown name, got 'ad-text'\. Known: paper-keywords"):
        both.prompt(row, "ad-text")


def test_a_file_that_is_no_contract_is_named(tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text('{"templates": {}}')
    with pytest.raises(InputError, match=r"contract\.json family: not a contract \(Field required"):
        load_contract(tmp_path)


def test_an_unknown_template_or_family_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="Known: ad-text, context-target"):
        contract_for(["recipe"], "glm", **SIZES)
    with pytest.raises(RecipeError, match=r"encode\.family: unknown name"):
        contract_for(["context-target"], "bert", **SIZES)
