"""The contract: a prompt in three parts, one hash, and a refusal that names both sides."""

from __future__ import annotations

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
    assert TEMPLATES["context-target"].prompt({"context": context}) == parts
    assert "".join(parts) == context


def test_a_contract_reads_back_with_the_same_hash(tmp_path: Path) -> None:
    contract = contract_for("context-target", "glm", **SIZES)
    contract.save(tmp_path)
    assert load_contract(tmp_path) == contract
    assert load_contract(tmp_path).hash() == contract.hash()


def test_another_limit_is_another_hash_and_both_sides_are_named() -> None:
    mine = contract_for("context-target", "glm", **SIZES)
    theirs = mine.model_copy(update={"max_prompt_tokens": 8})
    assert mine.hash() != theirs.hash()
    with pytest.raises(IntegrityError, match=r"data / model: .*max_prompt_tokens \(9 / 8\)"):
        require_same(mine, theirs, my_name="data", their_name="model")


def test_a_file_that_is_no_contract_is_named(tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text('{"template": "context-target"}')
    with pytest.raises(InputError, match=r"contract\.json family: not a contract \(Field required"):
        load_contract(tmp_path)


def test_an_unknown_template_or_family_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="Known: ad-text, context-target"):
        contract_for("recipe", "glm", **SIZES)
    with pytest.raises(RecipeError, match=r"encode\.family: unknown name"):
        contract_for("context-target", "bert", **SIZES)
