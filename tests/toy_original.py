"""Small original-format checkpoints with random weights, written the way the published ones are.

Names and shapes come from sections 1.1 and 2.1 of the reference data's ARCHITECTURE.md, written out
here once more so that a slip in glmops.models.original.names shows.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PIECES = 300  # of the SentencePiece file; [MASK] [gMASK] [sMASK] sop eop come after it
LATER: dict[str, Any] = {
    "model_type": "chatglm",
    "_name_or_path": "THUDM/chatglm2-6b",
    "auto_map": {"AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration"},
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "ffn_hidden_size": 24,
    "hidden_dropout": 0.0,
    "hidden_size": 16,
    "kv_channels": 8,
    "layernorm_epsilon": 1e-5,
    "multi_query_attention": True,
    "multi_query_group_num": 1,
    "num_attention_heads": 2,
    "num_layers": 2,
    "original_rope": True,
    "padded_vocab_size": 320,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 64,
    "torch_dtype": "float16",
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def later_tensors(settings: Mapping[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Random weights for ChatGLM2/3 or GLM-4 under their original names, in float16."""
    hidden, ffn, width = (
        settings[key] for key in ("hidden_size", "ffn_hidden_size", "kv_channels")
    )
    queries = settings["num_attention_heads"] * width
    fused = queries + 2 * settings["multi_query_group_num"] * width
    vocabulary = settings["padded_vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": (vocabulary, hidden)
    }
    for layer in range(settings["num_layers"]):
        place = f"transformer.encoder.layers.{layer}."
        shapes[f"{place}input_layernorm.weight"] = (hidden,)
        shapes[f"{place}self_attention.query_key_value.weight"] = (fused, hidden)
        if settings["add_qkv_bias"]:
            shapes[f"{place}self_attention.query_key_value.bias"] = (fused,)
        shapes[f"{place}self_attention.dense.weight"] = (hidden, queries)
        shapes[f"{place}post_attention_layernorm.weight"] = (hidden,)
        shapes[f"{place}mlp.dense_h_to_4h.weight"] = (2 * ffn, hidden)
        shapes[f"{place}mlp.dense_4h_to_h.weight"] = (hidden, ffn)
    shapes["transformer.encoder.final_layernorm.weight"] = (hidden,)
    shapes["transformer.output_layer.weight"] = (vocabulary, hidden)
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        scale = 1.5 / math.sqrt(shape[-1]) if len(shape) == 2 else 0.3
        values = torch.randn(shape, generator=random) * scale
        tensors[name] = (values + 1 if "layernorm" in name else values).half()
    tensors["transformer.rotary_pos_emb.inv_freq"] = torch.zeros(width // 4).half()
    return tensors


def write(
    folder: Path,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    shards: int = 2,
    old_pickle: bool = False,
) -> Path:
    """config.json, ``shards`` .bin files (one: no index), and a ChatGLM2 tokenizer."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings))
    names = list(tensors)
    step = -(-len(names) // shards)
    files: dict[str, str] = {}
    for number in range(shards):
        file = f"pytorch_model-{number + 1:05d}-of-{shards:05d}.bin"
        file = file if shards > 1 else "pytorch_model.bin"
        members = names[number * step : (number + 1) * step]
        files |= dict.fromkeys(members, file)
        torch.save(
            {name: tensors[name] for name in members},
            folder / file,
            _use_new_zipfile_serialization=not old_pickle,
        )
    if shards > 1:
        index = {"metadata": {"total_size": 0}, "weight_map": files}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"name_or_path": "THUDM/chatglm2-6b", "tokenizer_class": "ChatGLMTokenizer"})
    )
    (folder / "MODEL_LICENSE").write_text("The terms of this made-up model.\n")
    return folder


def small(folder: Path, *, seed: int = 0, shards: int = 2, **changes: Any) -> Path:
    """A ChatGLM2 folder of about 50 kB."""
    settings = {**LATER, **changes}
    return write(folder, settings, later_tensors(settings, seed), shards=shards)


@cache
def sentencepiece_model() -> bytes:
    """BPE with byte fallback and no normalisation, like ChatGLM2's; <unk> <s> </s> come first."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["今天的天气怎么样", "介绍清华大学", "hello world"] * 20),
        model_writer=made,
        vocab_size=PIECES,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=True,
        minloglevel=2,
    )
    return made.getvalue()


def tiktoken_model() -> bytes:
    """GLM-4's kind of vocabulary file: every byte, and a few pairs of them."""
    pieces = [bytes([byte]) for byte in range(256)] + [b"he", b"ll", b"hell", b"hello"]
    lines = [base64.b64encode(piece) + f" {rank}\n".encode() for rank, piece in enumerate(pieces)]
    return b"".join(lines)
