from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import glmops.models
import toy_model as toy
from glmops.errors import InputError, MachineError, RecipeError
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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_fault_of_the_machine(checkpoint: Path) -> None:
    with pytest.raises(MachineError, match=r"device: torch sees no CUDA GPU here"):
        load(checkpoint, device="cuda")


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


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": "wide"},
        {"hidden_size": -3},
        {"num_attention_heads": 0},
        {"hidden_act": "unheard of"},
        {"rope_parameters": {"rope_type": "unheard of"}},
        {"dtype": "float99"},
        {"model_type": ["glm"]},
        {"quantization_config": "all of it"},
    ],
)
def test_a_config_that_makes_no_model_is_refused(checkpoint: Path, change: dict[str, Any]) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match=r"cannot be opened|unknown model_type"):
        load(checkpoint, device="cpu")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1]", b"null"])
def test_a_config_that_is_no_table_is_refused(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json"):
        load(checkpoint)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """The toy model in several files with an index, as transformers writes it."""
    folder = tmp_path / "sharded"
    toy.model().save_pretrained(str(folder), max_shard_size="40KB")
    toy.tokenizer().save_pretrained(str(folder))
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def test_a_sharded_checkpoint_is_the_model_that_was_saved(sharded: Path) -> None:
    assert torch.equal(_logits(load(sharded, device="cpu")[0]), _logits(toy.model()))


def test_a_shard_that_is_absent_is_refused_by_name(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(InputError, match=rf"index\.json lists is absent, got '{shard.name}'"):
        load(sharded)


def test_a_shard_that_the_index_does_not_list_is_refused_by_name(sharded: Path) -> None:
    shutil.copy(
        sorted(sharded.glob("*.safetensors"))[0], sharded / "model-00009-of-00009.safetensors"
    )
    with pytest.raises(InputError, match=r"a shard is missing from .*'model-00009-of-00009"):
        load(sharded)


def test_a_shard_that_was_cut_short_is_refused(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{shard.name}: not a whole safetensors file"):
        load(sharded)


def test_shards_without_their_index_are_refused(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").unlink()
    with pytest.raises(InputError, match=r"several files, but no index that lists them"):
        load(sharded)


@pytest.mark.parametrize("family", ["glm4", "llama", "gpt2"])
def test_any_causal_model_of_transformers_loads_as_it_is(family: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    if family != "gpt2":
        sizes |= {"num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 48}
    tokenizer = toy.tokenizer()
    config = AutoConfig.for_model(
        family, vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=0, **sizes
    )
    torch.manual_seed(0)
    expected = AutoModelForCausalLM.from_config(config).eval()
    expected.save_pretrained(str(tmp_path))
    tokenizer.save_pretrained(str(tmp_path))
    model, _ = load(tmp_path, device="cpu")
    assert type(model) is type(expected)
    assert torch.equal(_logits(model), _logits(expected))


def test_a_tokenizer_of_another_family_is_refused(checkpoint: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    foreign = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    foreign.save_pretrained(str(checkpoint))
    with pytest.raises(InputError, match=r"its tokenizer has no \[gMASK\], so it is not a GLM's"):
        load(checkpoint)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(checkpoint: Path) -> None:
    from glmops.models.tokenizers import train_tokenizer

    texts = [f"{number} apples on table {number * 7}" for number in range(200)]
    train_tokenizer(texts, 600).save_pretrained(str(checkpoint))
    with pytest.raises(InputError, match=r"its tokenizer has \d+ tokens, more than the model's 3"):
        load(checkpoint)


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
