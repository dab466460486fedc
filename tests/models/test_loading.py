from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_model as toy
from safetensors.torch import load_file, save_file

import glmops.models
from glmops.errors import InputError, RecipeError
from glmops.models import load


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[2, 4, 60, 80, 100]])).logits


def test_a_loaded_checkpoint_gives_the_logits_of_the_model_that_was_saved(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a local checkpoint needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    model, tokenizer = load(checkpoint)
    assert torch.equal(_logits(model.cpu()), _logits(toy.model()))
    assert tokenizer.get_vocab() == toy.tokenizer().get_vocab()
    assert not model.training


def test_loading_says_nothing(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(checkpoint)
    assert capfd.readouterr() == ("", "")


def test_a_dtype_can_be_asked_for(checkpoint: Path) -> None:
    assert load(checkpoint)[0].dtype == torch.float32
    assert load(checkpoint, dtype="bfloat16", device="cpu")[0].dtype == torch.bfloat16
    with pytest.raises(RecipeError, match=r"dtype: unknown name, got 'int3'\. Known: auto"):
        load(checkpoint, dtype="int3")
    with pytest.raises(RecipeError, match=r"device: unknown name, got 'abacus'\. Known: auto"):
        load(checkpoint, device="abacus")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: no such folder"):
        load(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no config\.json in it"):
        load(tmp_path)


def test_weights_that_were_cut_short_are_refused(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors: not a whole safetensors file"):
        load(checkpoint)


@pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
def test_weights_that_do_not_fit_the_config_are_refused_by_name(
    checkpoint: Path, change: str
) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    if change == "missing":
        del weights[name]
    elif change == "unexpected":
        name = "model.layers.7.mlp.down_proj.weight"
        weights[name] = torch.zeros(2, 2)
    else:
        weights[name] = weights[name][:, :-1].clone()
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"1 tensors are {change}, got .*{name}"):
        load(checkpoint)


def test_pickled_weights_are_never_opened(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InputError, match=r"no \*\.safetensors in it \(pickled weights"):
        load(checkpoint)


def test_code_in_a_checkpoint_is_never_run(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoModelForCausalLM": "evil.Evil"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "evil.py").write_text("raise SystemExit('run')")
    with pytest.raises(InputError, match=r"unknown model_type .*got 'evil'"):
        load(checkpoint)
    assert "evil" not in sys.modules


def _adapter(folder: Path) -> torch.Tensor:
    """Store a LoRA that changes something beside the toy model; returns the logits of both."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    model = toy.model()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            torch.nn.init.normal_(module.lora_B["default"].weight)
    adapted.save_pretrained(str(folder))
    return _logits(adapted.eval())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_an_adapter_goes_on_top_of_its_base(checkpoint: Path, tmp_path: Path) -> None:
    expected = _adapter(tmp_path / "adapter")
    model, _ = load(checkpoint, device="cpu", adapter=tmp_path / "adapter")
    assert torch.equal(_logits(model), expected)
    assert not torch.allclose(expected, _logits(toy.model()))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@pytest.mark.parametrize("change", ["missing", "extra"])
def test_an_adapter_of_another_model_is_refused(
    checkpoint: Path, tmp_path: Path, change: str
) -> None:
    _adapter(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[0]
    if change == "missing":
        del weights[name]
    else:
        weights[name.replace("layers.0", "layers.7")] = torch.zeros(2, 2)
    save_file(weights, file)
    with pytest.raises(InputError, match=r"1 tensors are missing or of another model"):
        load(checkpoint, adapter=tmp_path)


def test_a_folder_without_an_adapter_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no adapter_config\.json in it"):
        load(checkpoint, adapter=tmp_path)


def test_the_package_exports_two_names_and_no_others() -> None:
    assert glmops.models.__all__ == ["load", "load_tokenizer"]
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = glmops.models.train
