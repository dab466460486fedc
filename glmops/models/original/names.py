"""Which tensors an original checkpoint must hold, and where each goes in the native model.

ChatGLM-6B keeps its names. For the later ones see ARCHITECTURE.md 2.8 of the reference data: rows
of the fused projection go to q, k and v; no value changes and no row moves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from glmops.models.original.recognise import Original

# Rotary frequencies are in the files, and are computed by the model all the same.
IGNORED = re.compile(
    r"transformer\.(?:rotary_pos_emb|layers\.\d+\.attention\.rotary_emb)\.inv_freq"
)


@dataclass(frozen=True, slots=True)
class Mapped:
    """One tensor of the original files.

    ``parts``: the native tensors that its rows become, in order, and how many rows each takes.
    ``linear``: int8 with a scale in the official quantised releases.
    ``copy_of``: it holds the values of that other one, is stored once, and may be absent.
    """

    source: str
    shape: tuple[int, ...]
    parts: tuple[tuple[str, int], ...]
    linear: bool = False
    copy_of: str = ""


def mapped_tensors(original: Original) -> list[Mapped]:
    """Every tensor that the checkpoint must hold, in the order of the computation."""
    return _first(original) if original.kind == "chatglm-6b" else _later(original)


def _same(name: str, shape: tuple[int, ...], linear: bool = False) -> Mapped:
    return Mapped(name, shape, ((name, shape[0]),), linear)


def _first(original: Original) -> list[Mapped]:
    hidden, vocabulary = original.setting("hidden_size"), original.setting("vocab_size")
    inner = original.settings.get("inner_hidden_size") or 4 * hidden
    embedding = "transformer.word_embeddings.weight"
    tensors = [_same(embedding, (vocabulary, hidden))]
    for layer in range(original.setting("num_layers")):
        place = f"transformer.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors += [_same(f"{place}{norm}.{each}", (hidden,)) for each in ("weight", "bias")]
        for name, rows, columns in (
            ("attention.query_key_value", 3 * hidden, hidden),
            ("attention.dense", hidden, hidden),
            ("mlp.dense_h_to_4h", inner, hidden),
            ("mlp.dense_4h_to_h", hidden, inner),
        ):
            tensors.append(_same(f"{place}{name}.weight", (rows, columns), linear=True))
            tensors.append(_same(f"{place}{name}.bias", (rows,)))
    for each in ("weight", "bias"):
        tensors.append(_same(f"transformer.final_layernorm.{each}", (hidden,)))
    head = Mapped("lm_head.weight", (vocabulary, hidden), (), copy_of=embedding)
    return [*tensors, head]


def _later(original: Original) -> list[Mapped]:
    hidden, ffn = original.setting("hidden_size"), original.setting("ffn_hidden_size")
    vocabulary = original.setting("padded_vocab_size")
    embedding = (vocabulary, hidden)
    tensors = [_moved("transformer.embedding.word_embeddings", "model.embed_tokens", embedding)]
    for layer in range(original.setting("num_layers")):
        theirs, ours = f"transformer.encoder.layers.{layer}.", f"model.layers.{layer}."
        tensors += [
            _moved(f"{theirs}input_layernorm", f"{ours}input_layernorm", (hidden,)),
            *_attention(original, f"{theirs}self_attention.", f"{ours}self_attn."),
            _moved(
                f"{theirs}post_attention_layernorm", f"{ours}post_attention_layernorm", (hidden,)
            ),
            _moved(
                f"{theirs}mlp.dense_h_to_4h", f"{ours}mlp.gate_up_proj", (2 * ffn, hidden), True
            ),
            _moved(f"{theirs}mlp.dense_4h_to_h", f"{ours}mlp.down_proj", (hidden, ffn), True),
        ]
    tensors.append(_moved("transformer.encoder.final_layernorm", "model.norm", (hidden,)))
    return [*tensors, _moved("transformer.output_layer", "lm_head", embedding)]


def _attention(original: Original, theirs: str, ours: str) -> list[Mapped]:
    hidden, width = original.setting("hidden_size"), original.setting("kv_channels")
    queries = original.setting("num_attention_heads") * width
    keys = original.setting("multi_query_group_num") * width
    rows = (("q_proj", queries), ("k_proj", keys), ("v_proj", keys))
    total = queries + 2 * keys

    def fused(kind: str, shape: tuple[int, ...], linear: bool) -> Mapped:
        parts = tuple((f"{ours}{name}.{kind}", count) for name, count in rows)
        return Mapped(f"{theirs}query_key_value.{kind}", shape, parts, linear)

    tensors = [fused("weight", (total, hidden), True)]
    if original.settings.get("add_qkv_bias", False):
        tensors.append(fused("bias", (total,), False))
    return [*tensors, _moved(f"{theirs}dense", f"{ours}o_proj", (hidden, queries), True)]


def _moved(theirs: str, ours: str, shape: tuple[int, ...], linear: bool = False) -> Mapped:
    return Mapped(f"{theirs}.weight", shape, ((f"{ours}.weight", shape[0]),), linear)
