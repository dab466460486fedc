"""A base is the one that the recipe pins, and it can read the rows, or the run does not start."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import toy_model as toy
import toy_original
from glmops.encode.dataset import encode_dataset
from glmops.encode.vocabulary import tokenizer_hash
from glmops.errors import InputError
from glmops.models.small import small_gpt2
from glmops.models.trained import open_trained
from glmops.recipe import PretrainedBase
from glmops.storage import read_json
from glmops.train.bases import base_hash, open_base, require_fit, require_pinned
from glmops.train.candidate import Data, Place, read_encoded, train_candidate


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a native checkpoint of the toy model in base/."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "dvc.yaml").touch()
    toy.model().save_pretrained(tmp_path / "base")
    toy.tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path


def pinned(project: Path, path: str = "base", **changes: str) -> PretrainedBase:
    sha256 = changes.get("sha256") or base_hash(project / path)
    return PretrainedBase(method="pretrained", path=path, sha256=sha256)


def test_the_hash_of_a_base_sees_its_weights_and_config_alone(project: Path) -> None:
    before = base_hash(project / "base")
    (project / "base" / "README.md").write_text("another word")
    assert base_hash(project / "base") == before
    for name in ("config.json", "model.safetensors"):
        file = project / "base" / name
        whole = file.read_bytes()
        file.write_bytes(whole + b" ")
        assert base_hash(project / "base") != before
        file.write_bytes(whole)


def test_zeros_are_answered_with_the_hash_that_belongs_there(project: Path) -> None:
    found = base_hash(project / "base")
    with pytest.raises(InputError, match=rf"whose hash is {found}, got '64 zeros'\. Copy"):
        require_pinned(pinned(project, sha256="0" * 64), project)
    assert require_pinned(pinned(project), project) == project / "base"


def test_other_weights_than_the_pinned_ones_are_refused(project: Path) -> None:
    settings = pinned(project)
    toy.model(seed=2).save_pretrained(project / "base")
    with pytest.raises(InputError, match=rf"other weights than those in base.*{settings.sha256}"):
        require_pinned(settings, project)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("", "no such folder. Put the checkpoint there"),
        ("model.safetensors", "no weights in it. Put the checkpoint there"),
        ("config.json", "no config.json in it. Copy the whole"),
    ],
)
def test_a_base_that_is_not_whole_says_what_to_put_where(
    project: Path, gone: str, message: str
) -> None:
    settings = pinned(project)
    if gone:
        (project / "base" / gone).unlink()
    else:
        shutil.rmtree(project / "base")
    with pytest.raises(InputError, match=message):
        require_pinned(settings, project)


def test_a_tokenizer_with_more_tokens_than_the_base_is_refused(data: Data) -> None:
    model, tokenizer = toy.model(), data.tokenizer
    require_fit(model, tokenizer, data.contract)
    model.config.vocab_size += 64  # published models are padded
    require_fit(model, tokenizer, data.contract)
    model.config.vocab_size = len(tokenizer) - 1
    message = rf"{len(tokenizer) - 1} embeddings, too few .*, got {len(tokenizer)}\."
    with pytest.raises(InputError, match=message):
        require_fit(model, tokenizer, data.contract)


def test_rows_longer_than_the_base_has_positions_are_refused(data: Data) -> None:
    settings = toy.base_settings(kv_heads=2)
    model = small_gpt2(settings, data.tokenizer, max_tokens=79, seed=1)
    with pytest.raises(InputError, match=r"79 positions, too few for the longest row, got 80"):
        require_fit(model, data.tokenizer, data.contract)


@pytest.mark.parametrize(
    ("quantization", "precision", "embedding"),
    [
        ("none", "float32", torch.float32),
        ("none", "bfloat16", torch.bfloat16),
        ("int8", "float32", torch.float32),
    ],
)
def test_a_frozen_base_is_held_in_the_recipes_precision(
    project: Path, quantization: str, precision: str, embedding: torch.dtype
) -> None:
    settings = toy.train_settings(quantization=quantization, precision=precision)
    model = open_base(project / "base", settings, "cpu")
    assert model.get_input_embeddings().weight.dtype == embedding


def test_weights_that_are_trained_are_held_in_float32(project: Path) -> None:
    toy.model().bfloat16().save_pretrained(project / "base")
    full = toy.train_settings(method="full", lora=None, precision="bfloat16")
    model = open_base(project / "base", full, "cpu")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def trained_on(project: Path, data: Data, base: PretrainedBase, **changes: Any) -> Path:
    values: dict[str, Any] = {"base": base.model_dump(), "export": "adapter", **changes}
    settings = toy.train_settings(**values)
    out = project / "models" / "toy"
    train_candidate(data, settings, Place(project, project / "work", out))
    return out


def test_an_adapter_finds_the_users_base_and_no_other(project: Path, data: Data) -> None:
    folder = trained_on(project, data, pinned(project))
    lineage = read_json(folder / "lineage.json")
    assert lineage["base"] == pinned(project).model_dump()  # relative, so that it travels
    assert not (folder / "base").exists()
    open_trained(folder)
    toy.model(seed=2).save_pretrained(project / "base")
    with pytest.raises(InputError, match="was made for another base"):
        open_trained(folder)
    shutil.rmtree(project / "base")
    with pytest.raises(InputError, match="its base is not in a project here, got base"):
        open_trained(folder)


def test_the_tokenizer_of_another_model_is_refused_before_training(data: Data) -> None:
    model = toy.model()
    model.config.eos_token_id = 2
    with pytest.raises(InputError, match=r"encode\.tokenizer: its tokenizer ends with id 0"):
        require_fit(model, data.tokenizer, data.contract)


@pytest.mark.parametrize("export", ["adapter", "merged"])
def test_an_original_checkpoint_is_a_base_as_it_was_published(project: Path, export: str) -> None:
    published = toy_original.small(project / "published")
    source = {"path": "published", "sha256": tokenizer_hash(published)}
    settings = toy.encode_settings(
        family="chatglm2",
        tokenizer=source,
        base_text="none",
        max_prompt_tokens=300,  # Chinese is bytes to its small tokenizer
        max_answer_tokens=64,
    )
    prepared = toy.write_prepared(project / "prepared", toy.TRAIN[:8], toy.DEV[:2])
    encode_dataset(prepared, settings, root=project, folder=project / "encoded")
    data = read_encoded(project / "encoded")
    lora = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "k_proj", "v_proj"]}
    folder = trained_on(project, data, pinned(project, "published"), lora=lora, export=export)
    model, tokenizer = open_trained(folder)
    plain = model.get_base_model() if export == "adapter" else model
    assert type(plain).__name__ == "GlmForCausalLM"
    assert plain.config.vocab_size == 320 > len(tokenizer)  # the published ones are padded, too
