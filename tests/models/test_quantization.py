"""bitsandbytes: what is quantised, what is not, and that nothing is merged into it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import toy_original as toy
from glmops.errors import InputError, MachineError, RecipeError
from glmops.models import load
from glmops.models.original.importing import import_model
from glmops.models.quantization import is_quantised, require_full_precision

Find = Callable[[str], Path]
WIDE = {"hidden_size": 64, "ffn_hidden_size": 64, "num_attention_heads": 2, "kv_channels": 32}
FAMILIES = {"chatglm-v1": "single_gmask", "chatglm2": "single"}
BOTH = pytest.mark.parametrize("family", list(FAMILIES))
KINDS = pytest.mark.parametrize("quantization", ["int8", "nf4"])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A native GLM of widths that every quantisation can take."""
    import_model(toy.small(tmp_path / "source", **WIDE), tmp_path / "native")
    return tmp_path / "native"


def ids_of(shared: Find, family: str) -> Tensor:
    data = load_file(shared(f"reference/{family}/forward.safetensors"))
    return data[f"{FAMILIES[family]}.input_ids"]


def logits(model: Any, ids_BT: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids_BT).logits.float()


def quantised_layers(model: Any) -> dict[str, Any]:
    return {
        name: module
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear4bit", "Linear8bitLt")
    }


@BOTH
@KINDS
def test_every_layer_is_quantised_and_head_and_embedding_never(
    family: str, quantization: str, shared: Find
) -> None:
    folder = shared(f"reference/{family}/model")
    model, _ = load(folder, quantization=quantization, device="cpu")
    full, _ = load(folder, device="cpu", dtype=str(model.dtype).removeprefix("torch."))
    weights = dict(full.named_parameters())
    layers = quantised_layers(model)
    linear = {n: m for n, m in full.named_modules() if isinstance(m, torch.nn.Linear)}
    # bitsandbytes' nf4 is wrong on a CPU for widths that do not divide into its blocks of 64.
    whole = {n for n, m in linear.items() if quantization == "int8" or m.in_features % 64 == 0}
    assert layers.keys() == whole - {"lm_head"}
    for name, parameter in model.named_parameters():
        if name.removesuffix(".weight") not in layers:
            assert torch.equal(parameter, weights[name]), name
    tied = family == "chatglm-v1"
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    assert is_quantised(model)
    assert not is_quantised(full)


@BOTH
def test_nf4_computes_with_the_values_its_weights_stand_for(family: str, shared: Find) -> None:
    from bitsandbytes.functional import dequantize_4bit

    folder, ids = shared(f"reference/{family}/model"), ids_of(shared, family)
    model, _ = load(folder, quantization="nf4", dtype="float32", device="cpu")
    full, _ = load(folder, dtype="float32", device="cpu")
    plain = dict(full.named_modules())
    for name, layer in quantised_layers(model).items():
        weight_OI = plain[name].weight
        values_OI = dequantize_4bit(layer.weight.data, layer.weight.quant_state).reshape(
            weight_OI.shape
        )
        # The widest gap between two nf4 values is 0.304 of a block's largest weight, whose own
        # 8-bit value adds a little.
        assert (values_OI - weight_OI).abs().max() <= 0.16 * weight_OI.abs().max()
        plain[name].weight.data = values_OI.float()
    assert (logits(model, ids) - logits(full, ids)).abs().max() < 2e-3


def test_widths_that_bitsandbytes_gets_wrong_on_a_cpu_are_still_wrong_there() -> None:
    """When this fails, `_wrong_on_cpu` in quantization.py can go. Where it works, nf4 is at most
    0.16 of a block's largest weight away."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight_OI = torch.randn(64, 160, generator=torch.manual_seed(0))
    values_OI = dequantize_4bit(*quantize_4bit(weight_OI, quant_type="nf4"))
    assert (values_OI - weight_OI).abs().max() > 0.3 * weight_OI.abs().max()


@BOTH
def test_int8_weights_are_within_half_a_step_of_the_stored_ones(family: str, shared: Find) -> None:
    folder = shared(f"reference/{family}/model")
    model, _ = load(folder, quantization="int8", device="cpu")
    full = dict(load(folder, dtype="float32", device="cpu")[0].named_modules())
    for name, layer in quantised_layers(model).items():
        step_O = layer.weight.SCB.float() / 127
        values_OI = layer.weight.CB.float() * step_O[:, None]
        off = (values_OI - full[name].weight).abs() / step_O[:, None]
        assert off.max() <= 0.5 + 1e-3


def test_int8_answers_almost_as_full_precision(shared: Find) -> None:
    # chatglm2 alone: the tiny ChatGLM-6B amplifies every rounding (reference/README.md).
    folder, ids = shared("reference/chatglm2/model"), ids_of(shared, "chatglm2")
    found = logits(load(folder, quantization="int8", device="cpu")[0], ids)
    expected = logits(load(folder, dtype="float32", device="cpu")[0], ids)
    assert torch.cosine_similarity(found.flatten(), expected.flatten(), 0) > 0.998


@BOTH
@KINDS
def test_an_original_folder_and_its_import_quantise_to_the_same(
    family: str, quantization: str, shared: Find, tmp_path: Path
) -> None:
    folder, ids = shared(f"reference/{family}/model"), ids_of(shared, family)
    import_model(folder, tmp_path / "native")
    found = logits(load(tmp_path / "native", quantization=quantization, device="cpu")[0], ids)
    assert torch.equal(found, logits(load(folder, quantization=quantization, device="cpu")[0], ids))


@BOTH
@KINDS
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_a_model_that_was_evaluated_can_still_be_trained(
    family: str, quantization: str, shared: Find
) -> None:
    """bitsandbytes by itself repacks nf4 at the first evaluation, on a CPU with AVX512-BF16."""
    from peft import LoraConfig, get_peft_model

    ids = ids_of(shared, family)
    gradients = []
    for evaluated in (False, True):
        model, _ = load(
            shared(f"reference/{family}/model"),
            quantization=quantization,
            dtype="float32",
            device="cpu",
        )
        targets = [name for name in quantised_layers(model) if name.endswith(("dense", "o_proj"))]
        torch.manual_seed(0)
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=targets))
        if evaluated:
            logits(adapted.eval(), ids)
        adapted.train()(ids, labels=ids).loss.backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in adapted.parameters() if p.grad is not None])
        )
    assert gradients[0].abs().max() > 0
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@KINDS
def test_an_adapter_is_never_merged_into_quantised_weights(
    quantization: str, checkpoint: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"])
    quantised = get_peft_model(load(checkpoint, quantization=quantization)[0], config)
    with pytest.raises(InputError, match=r"merge: an adapter is merged into full precision only"):
        require_full_precision(quantised)
    require_full_precision(get_peft_model(load(checkpoint)[0], config))


@KINDS
def test_a_quantised_folder_of_our_own_opens_again(
    quantization: str, checkpoint: Path, tmp_path: Path
) -> None:
    model, tokenizer = load(checkpoint, quantization=quantization, device="cpu")
    ids = torch.tensor([[2, 4, 60, 80, 100]])
    expected = logits(model, ids)
    model.save_pretrained(str(tmp_path / "stored"))
    tokenizer.save_pretrained(str(tmp_path / "stored"))
    again, _ = load(tmp_path / "stored", device="cpu")
    assert is_quantised(again)
    assert torch.allclose(logits(again, ids), expected, atol=1e-3)
    with pytest.raises(InputError, match=r"is quantised already"):
        load(tmp_path / "stored", quantization=quantization)


def test_the_official_int4_weights_can_be_quantised_anew(shared: Find) -> None:
    model, _ = load(shared("reference/chatglm2/quant-int4"), quantization="nf4", device="cpu")
    assert is_quantised(model)
    assert logits(model, ids_of(shared, "chatglm2")).isfinite().all()


@KINDS
def test_quantised_loading_and_answering_say_nothing(
    quantization: str, checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, _ = load(checkpoint, quantization=quantization, dtype="float32", device="cpu")
        logits(model, torch.tensor([[2, 4, 60]]))
    assert capfd.readouterr() == ("", "")


def test_a_model_that_nf4_would_leave_as_it_is_on_a_cpu_is_refused(tmp_path: Path) -> None:
    folder = toy.small(tmp_path / "narrow")
    with pytest.raises(InputError, match=r"no layer of it can be quantised.*multiple of 64"):
        load(folder, quantization="nf4", device="cpu")
    load(folder, quantization="int8", device="cpu")


def test_without_bitsandbytes_the_extra_is_named(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MachineError, match=r"bitsandbytes is not installed.*glmops\[quantized\]"):
        load(checkpoint, quantization="nf4")


def test_an_unknown_quantization_is_refused(checkpoint: Path) -> None:
    with pytest.raises(RecipeError, match=r"quantization: unknown name, got 'int3'.*int8, nf4"):
        load(checkpoint, quantization="int3")
