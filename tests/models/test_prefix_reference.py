"""P-tuning v2 against what the original code computed, ChatGLM-6B and ChatGLM2-6B.

The limits are those of reference/README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import toy_prefix as toy
from deviations import note
from glmops.models.adapters import with_adapter
from glmops.models.original.adapters import import_adapter

LOGITS = {"chatglm-6b": 2e-3, "chatglm2-6b": 3e-4}
LOSS, GRADIENT = 1e-4, 1e-3
KINDS = ("ptuning-no-projection", "ptuning-projection")
SINGLE = {"chatglm-6b": "single_gmask", "chatglm2-6b": "single"}
FORWARD = ("single", "batch_left_padded", "train_right_padded")
GENERATED = (
    ("chatglm-6b", "single_gmask"),
    ("chatglm-6b", "single_mask"),
    ("chatglm-6b", "batch_left_padded"),
    ("chatglm2-6b", "single"),
    ("chatglm2-6b", "batch_left_padded"),
)


@pytest.fixture(params=tuple(LOGITS))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def _base(family: str, shared: toy.Find, attention: str = "sdpa") -> Any:
    return toy.original(shared(f"{toy.FOLDERS[family]}/model"), attention)


def _tuned(family: str, kind: str, shared: toy.Find, attention: str = "sdpa") -> Any:
    """The reference base with the official files of ``kind`` put on it as they are."""
    folder = shared(f"{toy.FOLDERS[family]}/{kind}")
    return with_adapter(_base(family, shared, attention), folder).eval()


def _cases(family: str, kind: str, shared: toy.Find) -> dict[str, Tensor]:
    return load_file(shared(f"{toy.FOLDERS[family]}/{kind}/reference.safetensors"))


def _case(data: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Inputs as the native model takes them: the original's 4-D masks are True where blocked."""
    case = {k.removeprefix(f"{name}."): v for k, v in data.items() if k.startswith(f"{name}.")}
    mask = case.get("attention_mask", torch.ones_like(case["input_ids"]))
    if mask.dim() == 4:
        # The original's tokenizer, which made this mask, prefers [MASK] to [gMASK].
        case["mask_token_first"] = torch.ones(len(mask), dtype=torch.bool)
        mask = ~mask[:, 0].all(-1)
    case["attention_mask"] = mask.long()
    return case


def _inputs(case: dict[str, Tensor]) -> dict[str, Any]:
    names = ("input_ids", "attention_mask", "mask_token_first", "labels")
    return {name: case[name] for name in names if name in case}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_losses_and_gradients_equal_the_original(
    family, kind, attention, shared, record_property
) -> None:
    model, data = _tuned(family, kind, shared, attention), _cases(family, kind, shared)
    for name in FORWARD:
        case = _case(data, f"fwd.{SINGLE[family] if name == 'single' else name}")
        out = model(**_inputs(case))
        off = toy.far(
            out.logits[case["attention_mask"] > 0], case["logits"][case["attention_mask"] > 0]
        )
        record_property(f"logits {name}", off)
        note(family, "logits with a prefix", off, LOGITS[family])
        if "loss" in case:
            note(family, "loss with a prefix", abs(out.loss.item() - case["loss"].item()), LOSS)
            out.loss.backward()
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    lead = "grad.transformer.prefix_encoder."
    expected = {k.removeprefix(lead): v for k, v in case.items() if k.startswith(lead)}
    assert set(trained) == {f"{model.base_model_prefix}.prefix_encoder.{k}" for k in expected}
    for name, gradient in expected.items():
        own = toy.encoder(model).get_parameter(name).grad
        off = toy.far(own, gradient) / gradient.abs().max().item()
        note(family, "gradients of a prefix, of their maximum", off, GRADIENT)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("family", "name"), GENERATED)
def test_greedy_answers_equal_the_original(family, name, kind, cache, shared) -> None:
    model, data = _tuned(family, kind, shared), _cases(family, kind, shared)
    case = _case(data, f"gen.{name}")
    options = {} if cache == "dynamic" else {"cache_implementation": cache}
    given = {k: v for k, v in _inputs(case).items() if k != "labels"}
    ids_BT = model.generate(**given, max_new_tokens=24, do_sample=False, **options)
    assert ids_BT.tolist() == case["output_ids"].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_keys_and_values_equal_the_original(family, kind, shared) -> None:
    expected_NPBHD = _cases(family, kind, shared)["prompt_past_key_values"].flatten(0, 1)
    with torch.no_grad():
        kv_NBHPD = toy.encoder(_tuned(family, kind, shared))(1, torch.float32)
    off = toy.far(kv_NBHPD, expected_NPBHD.permute(0, 2, 3, 1, 4))
    note(family, "keys and values of a prefix", off, 1e-5)


def test_six_steps_of_training_equal_the_original(family, shared) -> None:
    folder = toy.FOLDERS[family]
    told = json.loads(shared(f"{folder}/training.json").read_text())["prefix"]
    data = load_file(shared(f"{folder}/training.safetensors"))
    model = _tuned(family, "ptuning-no-projection", shared)
    [weight] = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(
        [weight], lr=told["lr"], betas=told["betas"], eps=told["eps"], weight_decay=0.0
    )
    for expected in told["loss_before_each_step"]:
        loss = model(data["input_ids"], labels=data["labels"]).loss
        note(family, "loss in prefix training", abs(loss.item() - expected), LOSS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = data["prefix.after.transformer.prefix_encoder.embedding.weight"]
    # Six Adam steps of 0.02; the sign of a vanishing gradient is rounding's to decide.
    note(family, "a prefix after six steps", toy.far(weight.detach(), after), 5e-3)


@pytest.mark.parametrize("imported", [False, True], ids=["as it is", "imported"])
def test_the_official_run_is_continued_by_its_own_checkpoint(
    family, imported, shared, tmp_path: Path
) -> None:
    run = f"{toy.FOLDERS[family]}/official-ptuning-run"
    folder, base = shared(f"{run}/checkpoint-4"), shared(f"{toy.FOLDERS[family]}/model")
    if imported:
        assert import_adapter(folder, tmp_path / "prefix", base=base) == "prefix"
        folder = tmp_path / "prefix"
    model = with_adapter(toy.original(base), folder).eval()
    data, name = load_file(shared(f"{run}/reference.safetensors")), SINGLE[family]
    ids_BT = data[f"{name}.input_ids"]
    off = toy.far(toy.logits(model, input_ids=ids_BT), data[f"{name}.logits"])
    note(family, "logits of the official P-tuning run", off, LOGITS[family])
    mask_BT = torch.ones_like(ids_BT)
    written = model.generate(ids_BT, attention_mask=mask_BT, max_new_tokens=24, do_sample=False)
    assert written.tolist() == data[f"{name}.generated"].tolist()
