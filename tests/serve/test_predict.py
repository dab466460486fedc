from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import toy_model as toy
from glmops.errors import InputError, IntegrityError
from glmops.models.generation import generate_batches
from glmops.models.tokenizers import prompt_ids
from glmops.serve.predict import _load_pyfunc, answer, open_checkpoint, predict, predict_file

CONTEXTS = [row.prompt for row in toy.RECORDS[:5]]


def _expected(count: int) -> list[str]:
    """The same rows as records (not as contexts), through the model that was stored."""
    contract, tokenizer = toy.contract(), toy.tokenizer()
    prompts = [prompt_ids(toy.prompt(r.body), contract, tokenizer) for r in toy.RECORDS[:5]]
    options = {"stop": contract.stop, "max_new_tokens": count, "batch_size": 1}
    return [each.text for each in generate_batches(toy.model(), tokenizer, prompts, **options)]


def test_a_context_is_answered_as_its_record_would_be(package: Path) -> None:
    answers = predict(package / "model", CONTEXTS, max_new_tokens=6)
    assert answers == _expected(6)
    assert len(set(answers)) > 1


def test_an_answer_is_as_long_as_the_contract_allows(package: Path) -> None:
    checkpoint = open_checkpoint(package / "model")
    assert answer(checkpoint, CONTEXTS) == _expected(toy.contract().max_answer_tokens)


@pytest.mark.parametrize("make", [list, tuple, lambda x: pd.DataFrame({"n": 1, "context": x})])
def test_mlflow_may_hand_over_texts_or_a_frame(package: Path, make: type) -> None:
    loaded = _load_pyfunc(str(package))
    assert loaded.predict(make(CONTEXTS), params={"max_new_tokens": 6}) == _expected(6)


def test_input_that_holds_no_texts_is_refused(package: Path) -> None:
    loaded = _load_pyfunc(str(package))
    with pytest.raises(InputError, match=r"row 1 field 'context': no text under this name"):
        loaded.predict(pd.DataFrame({"text": ["a"]}))
    with pytest.raises(InputError, match=r"row 2: not a text or an object, got 3\."):
        loaded.predict(["a", 3])


def test_an_over_long_question_is_refused_by_its_number(package: Path) -> None:
    long = f"Instruction: {'读' * 99}\nInput: 问\n\n草地\nAnswer: "
    with pytest.raises(InputError, match=r"row 2: the prompt without its body"):
        predict(package / "model", [CONTEXTS[0], long])


def test_a_contract_that_is_not_the_weights_own_is_refused(package: Path) -> None:
    toy.contract(max_prompt_tokens=63).save(package / "model")
    with pytest.raises(IntegrityError, match=r"the contract is not the one that the weights"):
        open_checkpoint(package / "model")


def test_a_file_is_answered_line_by_line(package: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"context": c, "target": "?"}, ensure_ascii=False) for c in CONTEXTS]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows[:3]) + "\n\n" + "\n".join(rows[3:]))
    answered = predict_file(package / "model", tmp_path / "rows.jsonl")
    assert [row["context"] for row in answered] == CONTEXTS
    expected = _expected(toy.contract().max_answer_tokens)
    assert [row["answer"] for row in answered] == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"context": "a"}\n{"context"\n', r"rows\.jsonl:2: not JSON"),
        (b'["a"]\n', r"rows\.jsonl:1: not a JSON object"),
        (b'{"context": "\xff"}\n', r"rows\.jsonl:1: not JSON"),
        (b"\n", r"rows\.jsonl: has no rows"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        predict_file(tmp_path / "unused", tmp_path / "rows.jsonl")


def test_a_serving_machine_needs_neither_dvc_nor_prefect_nor_mlflow(package: Path) -> None:
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['dvc', 'prefect', 'mlflow', 'pandas']));"
        "from glmops.serve.predict import predict; print(predict(sys.argv[1], [sys.argv[2]], 2))"
    )
    command = [sys.executable, "-c", script, str(package / "model"), CONTEXTS[0]]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
    assert done.stdout.strip() == str(_expected(2)[:1]), done.stderr
