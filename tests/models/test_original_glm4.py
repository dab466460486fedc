"""GLM-4-9B in its original format: no reference was executed, so GlmForCausalLM is the origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import GlmConfig, GlmForCausalLM

import toy_original as toy
from glmops.models import load
from glmops.models.original.importing import import_model
from glmops.models.original.recognise import recognise

FIRST_CONTROL = 260  # pieces in toy.tiktoken_model(); <|endoftext|> is the first id after them
STOPS = [FIRST_CONTROL, FIRST_CONTROL + 7, FIRST_CONTROL + 9]
SETTINGS: dict[str, Any] = {
    **toy.LATER,
    "_name_or_path": "THUDM/glm-4-9b-chat",
    "ffn_hidden_size": 40,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "multi_query_group_num": 2,
    "num_layers": 3,
    "num_hidden_layers": 3,
    "layernorm_epsilon": 1.5625e-07,
    "rope_ratio": 500,
    "torch_dtype": "bfloat16",
    "eos_token_id": STOPS,
    "pad_token_id": FIRST_CONTROL,
}
TOKENIZER = {
    "name_or_path": "THUDM/glm-4-9b-chat",
    "tokenizer_class": "ChatGLM4Tokenizer",
    "auto_map": {"AutoTokenizer": ["tokenization_chatglm.ChatGLM4Tokenizer", None]},
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}
IDS = torch.tensor([[FIRST_CONTROL + 2, FIRST_CONTROL + 4, 5, 77, 200, 9, 31, 4]])


def random_glm(dtype: torch.dtype = torch.bfloat16) -> GlmForCausalLM:
    """What the folder is made from: bfloat16 values. rope_theta is 10000 * 500 by hand."""
    torch.manual_seed(4)
    config = GlmConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        rms_norm_eps=1.5625e-07,
        max_position_embeddings=64,
        attention_bias=True,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 5_000_000.0,
            "partial_rotary_factor": 0.5,
        },
        pad_token_id=FIRST_CONTROL,
        eos_token_id=STOPS,
        initializer_range=0.4,
    )
    model = GlmForCausalLM(config).eval()
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
        # Parameters only: model.to() would also round the rotary frequencies, a buffer.
        weight.data = weight.data.bfloat16().to(dtype)
    return model


def original_names(model: GlmForCausalLM) -> dict[str, Tensor]:
    """The mapping of ARCHITECTURE.md 2.8 backwards, written out."""
    weights = model.state_dict()
    tensors = {
        "transformer.embedding.word_embeddings.weight": weights["model.embed_tokens.weight"],
        "transformer.encoder.final_layernorm.weight": weights["model.norm.weight"],
        "transformer.output_layer.weight": weights["lm_head.weight"],
        "transformer.rotary_pos_emb.inv_freq": torch.zeros(2).bfloat16(),
    }
    for layer in range(model.config.num_hidden_layers):
        ours, theirs = f"model.layers.{layer}.", f"transformer.encoder.layers.{layer}."
        for kind in ("weight", "bias"):
            parts = [weights[f"{ours}self_attn.{name}_proj.{kind}"] for name in "qkv"]
            tensors[f"{theirs}self_attention.query_key_value.{kind}"] = torch.cat(parts)
        for old, new in {
            "self_attention.dense": "self_attn.o_proj",
            "mlp.dense_h_to_4h": "mlp.gate_up_proj",
            "mlp.dense_4h_to_h": "mlp.down_proj",
            "input_layernorm": "input_layernorm",
            "post_attention_layernorm": "post_attention_layernorm",
        }.items():
            tensors[f"{theirs}{old}.weight"] = weights[f"{ours}{new}.weight"]
    return tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Safetensors in two shards, as GLM-4-9B was published."""
    folder = tmp_path / "glm4"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SETTINGS))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER))
    (folder / "tokenizer.model").write_bytes(toy.tiktoken_model())
    tensors = original_names(random_glm())
    names, places = sorted(tensors), {}
    for number, members in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name].contiguous() for name in members}, folder / file)
        places |= dict.fromkeys(members, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_the_weights_and_the_stretched_rotation_arrive_unchanged(
    folder: Path, tmp_path: Path
) -> None:
    original = recognise(folder)
    assert original is not None
    assert original.kind == "glm-4-9b"
    import_model(folder, tmp_path / "native")
    for place in (folder, tmp_path / "native"):
        for dtype in ("auto", "float32"):
            model, _ = load(place, dtype=dtype, device="cpu")
            expected = random_glm(model.dtype)
            with torch.no_grad():
                assert torch.equal(model(IDS).logits, expected(IDS).logits)
        assert load(place, device="cpu")[0].dtype == torch.bfloat16


def test_generation_stops_where_another_speaker_would_begin(folder: Path, tmp_path: Path) -> None:
    import_model(folder, tmp_path / "native")
    for place in (folder, tmp_path / "native"):
        model, tokenizer = load(place, device="cpu")
        assert model.generation_config.eos_token_id == STOPS
        assert model.generation_config.pad_token_id == FIRST_CONTROL
        names = tokenizer.convert_ids_to_tokens(STOPS)
        assert names == ["<|endoftext|>", "<|user|>", "<|observation|>"]
