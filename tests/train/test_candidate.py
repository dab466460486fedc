from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import toy_model as toy
from glmops.contract import load_contract
from glmops.models import load
from glmops.models.generation import generate_batches
from glmops.models.tokenizers import prompt_ids
from glmops.storage import read_json, sha256_tree
from glmops.train.candidate import Data, Place, read_encoded, total_steps, train_candidate
from glmops.train.export import weights_hash


def _place(folder: Path, name: str = "model") -> Place:
    return Place(folder, folder / "work" / name, folder / name)


def _answers(model: Any, tokenizer: Any) -> list[str]:
    contract = toy.contract()
    prompts = [prompt_ids(toy.prompt(r.body), contract, tokenizer) for r in toy.DEV]
    written = generate_batches(
        model, tokenizer, prompts, stop=contract.stop, max_new_tokens=8, batch_size=4
    )
    return [each.text for each in written]


def test_equal_inputs_give_equal_bytes(encoded: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_candidate(read_encoded(encoded), toy.train_settings(), _place(tmp_path, name))
    assert sha256_tree(tmp_path / "a") == sha256_tree(tmp_path / "b")
    train_candidate(read_encoded(encoded), toy.train_settings(seed=2), _place(tmp_path, "c"))
    a, c = sha256_tree(tmp_path / "a"), sha256_tree(tmp_path / "c")
    differing = {name for name in a if a[name] != c[name]}
    assert differing == {"model.safetensors", "lineage.json"}


def test_the_checkpoint_is_whole_and_says_where_it_comes_from(data: Data, tmp_path: Path) -> None:
    train_candidate(data, toy.train_settings(), _place(tmp_path))
    folder = tmp_path / "model"
    model, tokenizer = load(folder)
    assert model.config.use_cache
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert tokenizer.get_vocab() == data.tokenizer.get_vocab()
    assert load_contract(folder) == data.contract
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}
    lineage = read_json(folder / "lineage.json")
    assert len(lineage["base"].pop("sha256")) == 64
    assert len(lineage.pop("training")) == 64
    assert lineage == {
        "base": {"method": "scratch"},
        "method": "lora",
        "export": "merged",
        "contract": data.contract.hash(),
    }


def test_the_method_does_the_learning_and_not_the_base(data: Data, tmp_path: Path) -> None:
    base = toy.base_settings(
        hidden_size=64, schedule=toy.schedule(epochs=10, batch_size=4, learning_rate=0.01)
    )
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"]
    settings = toy.train_settings(
        base=base.model_dump(),
        lora={"rank": 16, "alpha": 32, "dropout": 0.0, "targets": targets},
        schedule=toy.schedule(epochs=15, batch_size=4, learning_rate=0.005),
    )
    history, numbers = train_candidate(data, settings, _place(tmp_path))
    answers = _answers(*load(tmp_path / "model", device="cpu"))
    assert answers == [row.target for row in toy.DEV]
    # Answers that were dealt to other rows teach the base that there are four colours, not which
    # one belongs where: guessing costs ln 4 nats on one token of each answer.
    learnt = data.dev.num_learnt / len(data.dev)
    assert numbers["base"]["loss"]["dev"] * learnt > 0.95 * math.log(4)
    assert numbers["lora"]["loss"]["dev"] * learnt < 0.6 * math.log(4)
    assert [point.phase for point in history] == sorted(point.phase for point in history)


def test_the_numbers_add_up(data: Data, tmp_path: Path) -> None:
    steps: list[int] = []
    settings = toy.train_settings()
    history, numbers = train_candidate(
        data, settings, _place(tmp_path), on_step=lambda: steps.append(1)
    )
    assert len(steps) == total_steps(data, settings) == 5 + 5  # 40 rows in batches of 8, twice
    assert numbers["base"]["tokens"] == sum(len(row.input_ids) for row in data.base)
    base, lora = numbers["base"]["parameters"], numbers["lora"]["parameters"]
    assert base["trainable"] == base["total"]
    assert lora["total"] == base["total"] + lora["trainable"]
    assert numbers["lora"]["loss"]["train"] == history[-1].loss
    assert torch.get_num_threads() == settings.threads


def test_an_interrupted_run_leaves_no_checkpoint(data: Data, tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_candidate(data, toy.train_settings(), _place(tmp_path), on_step=interrupt)
    assert not (tmp_path / "model").exists()


def test_the_hash_of_weights_sees_every_value_and_name() -> None:
    model = toy.model()
    before = weights_hash(model)
    assert before == weights_hash(toy.model())
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    assert weights_hash(model) != before
