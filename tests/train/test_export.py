"""What is trained, exported and opened again is one model, for every architecture and method."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import toy_model as toy
from glmops.encode.dataset import encode_dataset
from glmops.evaluate.answers import answer
from glmops.models import load
from glmops.models.generation import generate_batches
from glmops.models.tokenizers import prompt_ids
from glmops.models.trained import ADAPTER, BASE, open_trained
from glmops.recipe import Train
from glmops.serve.predict import predict
from glmops.storage import read_json
from glmops.templates import prompt_of
from glmops.train import candidate
from glmops.train.candidate import Place, read_encoded, train_candidate

ROOT = Path(__file__).parents[2]
FAMILIES = {"glm": "glm", "chatglm": "chatglm", "gpt1": "gpt", "gpt2": "gpt"}
TARGETS = {
    "glm": ["q_proj", "down_proj"],
    "chatglm": ["query_key_value", "dense"],
    "gpt1": ["c_attn", "c_fc"],
    "gpt2": ["c_attn", "c_fc"],
}
ADAPTERS = [  # GPT-1 with a prefix: the recipe is refused
    ("glm", "lora", "none"),
    ("glm", "lora", "int8"),
    ("glm", "prefix", "nf4"),
    ("chatglm", "lora", "nf4"),
    ("chatglm", "prefix", "none"),
    ("chatglm", "prefix", "int8"),
    ("chatglm", "prefix", "nf4"),
    ("gpt1", "lora", "none"),
    ("gpt1", "lora", "nf4"),
    ("gpt2", "lora", "int8"),
    ("gpt2", "prefix", "nf4"),
]
ROWS = toy.DEV[:4]
Trained = tuple[Path, Any, Any]


@cache
def encoded_for(family: str, root: Path) -> Path:
    prepared = toy.write_prepared(root / family / "prepared")
    settings = toy.encode_settings(family=family)
    encode_dataset(prepared, settings, root=root, folder=root / family / "toy")
    return root / family / "toy"


@pytest.fixture
def trained(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Trained]:
    """Train as a recipe would: the folder, the logits of the model before its export, its data."""
    export = candidate._export

    def train(architecture: str, method: str, **changes: Any) -> Trained:
        family = FAMILIES[architecture]
        data = read_encoded(encoded_for(family, tmp_path_factory.getbasetemp() / "encoded"))
        settings = settings_for(architecture, method, **changes)
        # As it is before merging, which happens in place.
        before: dict[str, Any] = {}

        def kept(model: Any, *rest: Any) -> None:
            before["logits"] = logits(model.eval(), data)
            export(model, *rest)

        monkeypatch.setattr(candidate, "_export", kept)
        train_candidate(data, settings, Place(tmp_path, tmp_path / "work", tmp_path / "out"))
        return tmp_path / "out", before["logits"], data

    return train


def settings_for(architecture: str, method: str, **changes: Any) -> Train:
    adapter = method in ("lora", "prefix")
    base = toy.base_settings(
        architecture=architecture,
        hidden_size=64,  # whole blocks of 4-bit weights
        intermediate_size=256,
        heads=4,
        kv_heads=2 if architecture == "glm" else 4,
        schedule=None,  # a base may stay as random as it was made
    )
    lora = {"rank": 4, "alpha": 8, "dropout": 0.1, "targets": TARGETS[architecture]}
    values = {
        "base": base.model_dump(),
        "method": method,
        "lora": lora if method == "lora" else None,
        "prefix": {"length": 4, "projection": False} if method == "prefix" else None,
        "schedule": toy.schedule(max_steps=6, epochs=None, learning_rate=0.02),
        "export": "adapter" if adapter else "merged",
    }
    return toy.train_settings(**{**values, **changes})


def logits(model: Any, data: Any) -> list[torch.Tensor]:
    """The logits behind four prompts, one row at a time."""
    prompts = [prompt_ids(prompt_of(row), data.contract, data.tokenizer) for row in ROWS]
    with torch.no_grad():
        rows = [torch.tensor([each]).to(model.device) for each in prompts]
        return [model(input_ids=row, attention_mask=row * 0 + 1).logits for row in rows]


def assert_answers(folder: Path, data: Any) -> None:
    """evaluate and serve both open the folder, and write what the opened model writes."""
    model, tokenizer = open_trained(folder)
    prompts = [prompt_ids(prompt_of(row), data.contract, tokenizer) for row in ROWS]
    stop = data.contract.stop
    alone = [
        generate_batches(model, tokenizer, [p], stop=stop, max_new_tokens=6, batch_size=1)[0].text
        for p in prompts
    ]
    evaluated = answer(folder, ROWS, batch_size=4, max_new_tokens=6)
    assert [each.answer for each in evaluated] == alone
    served = predict(folder, [{"context": row.prompt} for row in ROWS], max_new_tokens=6)
    assert served == alone


@pytest.mark.parametrize(("architecture", "method", "quantization"), ADAPTERS)
def test_an_adapter_beside_its_base_is_the_trained_model_to_the_bit(
    trained: Callable[..., Trained], architecture: str, method: str, quantization: str
) -> None:
    folder, before, data = trained(architecture, method, quantization=quantization)
    model, _ = open_trained(folder)
    after = logits(model, data)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    plain = logits(load(folder / BASE)[0], data)
    assert not torch.allclose(after[0], plain[0], atol=1e-3)  # it does something
    assert_answers(folder, data)


@pytest.mark.parametrize(
    ("architecture", "method"),
    [("glm", "full"), ("chatglm", "full"), ("gpt1", "scratch"), ("gpt2", "scratch")],
)
def test_full_weights_are_the_trained_model_to_the_bit(
    trained: Callable[..., Trained], architecture: str, method: str
) -> None:
    folder, before, data = trained(architecture, method)
    after = logits(open_trained(folder)[0], data)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert_answers(folder, data)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_merging_is_the_base_plus_the_adapter(
    trained: Callable[..., Trained], architecture: str
) -> None:
    folder, before, data = trained(architecture, "lora", export="merged")
    after = logits(open_trained(folder)[0], data)
    # Logits of about 1 in float32; the sum is the same in another order.
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(before, after, strict=True))
    assert not (folder / ADAPTER).exists()


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_what_was_trained_on_quantised_weights_is_merged_into_whole_ones(
    trained: Callable[..., Trained], tmp_path: Path, quantization: str
) -> None:
    folder, _, data = trained("glm", "lora", quantization=quantization, export="merged")
    merged, base = (load(each)[0].state_dict() for each in (folder, tmp_path / "work" / "base"))
    pairs = load(tmp_path / "work" / "base", adapter=tmp_path / "work" / "adapter")[0].state_dict()
    checked = 0
    for name, weight in merged.items():
        inside = f"base_model.model.{name.removesuffix('.weight')}"
        expected = base[name]
        if f"{inside}.lora_A.default.weight" in pairs:
            a, b = (pairs[f"{inside}.lora_{part}.default.weight"] for part in "AB")
            expected = expected + (8 / 4) * (b @ a)  # LoRA's definition: alpha / rank
            checked += 1
        assert torch.allclose(weight, expected, atol=1e-6), name
    assert checked == 2 * len(TARGETS["glm"])
    assert_answers(folder, data)


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_half_precision_bases_carry_adapters_in_full_precision(
    trained: Callable[..., Trained], method: str
) -> None:
    folder, before, data = trained("glm", method, precision="bfloat16")
    model, _ = open_trained(folder)
    kinds = {
        ("adapter" if "lora_" in name or "prefix_" in name else "base"): weight.dtype
        for name, weight in model.named_parameters()
    }
    assert kinds == {"adapter": torch.float32, "base": torch.bfloat16}
    after = logits(model, data)
    # Training computed the adapter in bfloat16, too, which keeps 8 bits of logits of about 1.
    pairs = zip(before, after, strict=True)
    assert all(torch.allclose(a.float(), b.float(), atol=0.03) for a, b in pairs)


@pytest.mark.parametrize(("method", "architecture"), [("lora", "chatglm"), ("prefix", "glm")])
def test_a_checkpoint_names_no_place_time_or_machine(
    trained: Callable[..., Trained], tmp_path: Path, method: str, architecture: str
) -> None:
    folder, _, _ = trained(architecture, method)
    for file in filter(Path.is_file, folder.rglob("*")):
        content = file.read_bytes()
        for word in (tmp_path, ROOT, f"{Path.home()}/", Path(sys.prefix)):
            assert str(word).encode() not in content, (file, word)
        if file.suffix == ".json" and file.name != "tokenizer.json":
            here = re.escape(socket.gethostname())
            said = re.search(rf'"/[^"]+/|20\d\d-\d\d-\d\d|\b{here}\b', content.decode())
            assert said is None, (file, said)


def test_the_targets_of_a_lora_are_named_in_one_order(
    trained: Callable[..., Trained],
) -> None:
    """peft keeps them in a set, which each process orders in another way."""
    names = ["v_proj", "q_proj", "o_proj", "k_proj", "gate_up_proj", "down_proj"]
    lora = {"rank": 2, "alpha": 4, "dropout": 0.0, "targets": names}
    folder, _, _ = trained("glm", "lora", lora=lora)
    assert read_json(folder / ADAPTER / "adapter_config.json")["target_modules"] == sorted(names)
