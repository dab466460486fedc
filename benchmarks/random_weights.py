"""Models of any size with random weights, made where they are used and in the dtype they have.

The skeleton is laid out without memory; then one module after another gets its weights on the
device. A ChatGLM-6B in bfloat16 never takes more than its own 12.4 GB there, and nothing on the
host; with 4-bit weights a layer is quantised before the next one is made, so that the peak is the
quantised model and one full matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

SIZES: dict[str, dict[str, Any]] = {
    "full": {
        # The published config.json files of ChatGLM-6B (the class's defaults) and ChatGLM2-6B.
        "chatglm": {},
        "chatglm2": {
            "vocab_size": 65024,
            "hidden_size": 4096,
            "intermediate_size": 13696,
            "num_hidden_layers": 28,
            "num_attention_heads": 32,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "max_position_embeddings": 32768,
            "pad_token_id": 0,
            "eos_token_id": 2,
        },
    },
    "tiny": {
        "chatglm": {
            "vocab_size": 256,
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "bos_token_id": 250,
            "eos_token_id": 251,
            "mask_token_id": 252,
            "gmask_token_id": 253,
        },
        "chatglm2": {
            "vocab_size": 256,
            "hidden_size": 64,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "pad_token_id": 0,
            "eos_token_id": 2,
        },
    },
}


def random_model(
    kind: str, size: str, *, device: str, dtype: torch.dtype, nf4: bool = False, seed: int = 1
) -> Any:
    """A causal LM of the shape ``SIZES[size][kind]`` on ``device``.

    Args:
        nf4: Hold the matrices of the layers in 4 bits, as ``glmops.models.load`` does.
    """
    with torch.device("meta"):
        model = _skeleton(kind, SIZES[size][kind])
    tied = model.get_output_embeddings() if model.config.tie_word_embeddings else None
    generator = torch.Generator(device).manual_seed(seed)
    for parent, name, module in list(_leaves(model)):
        if module is tied:  # it gets the embeddings, below; a second gigabyte would be the peak
            continue
        _fill(module, device, dtype, generator)
        # Head and embedding are never quantised.
        if nf4 and isinstance(module, nn.Linear) and parent is not model:
            setattr(parent, name, _in_four_bits(module, dtype))
    model.tie_weights()
    _make_buffers(model, device)
    model.config.dtype = dtype
    if nf4:
        from glmops.models.quantization import settle

        settle(model)
    return model


def _skeleton(kind: str, sizes: dict[str, Any]) -> Any:
    if kind == "chatglm":
        from glmops.models.chatglm.configuration import ChatGLMConfig
        from glmops.models.chatglm.modeling import ChatGLMForCausalLM

        return ChatGLMForCausalLM(ChatGLMConfig(**sizes))
    from transformers import GlmConfig, GlmForCausalLM

    return GlmForCausalLM(GlmConfig(**sizes))


def _leaves(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Every module as its parent, its name there and itself."""
    for parent in model.modules():
        for name, module in parent.named_children():
            yield parent, name, module


def _fill(module: nn.Module, device: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    """Real weights for the module's own parameters: normal(0, 0.02), norms 1, biases 0."""
    for name, old in list(module.named_parameters(recurse=False)):
        weight = torch.empty(old.shape, device=device, dtype=dtype)
        if name == "bias":
            weight.zero_()
        elif weight.dim() == 1:
            weight.fill_(1.0)
        else:
            weight.normal_(0, 0.02, generator=generator)
        setattr(module, name, nn.Parameter(weight, requires_grad=True))


def _in_four_bits(full: nn.Linear, dtype: torch.dtype) -> nn.Module:
    """The same layer by bitsandbytes, with the settings that ``glmops.models.load`` uses."""
    from glmops.models.quantization import bitsandbytes_config

    chosen = bitsandbytes_config("nf4", dtype)  # first: it also keeps bitsandbytes quiet
    import bitsandbytes as bnb

    options = {
        "compress_statistics": chosen.bnb_4bit_use_double_quant,
        "quant_type": chosen.bnb_4bit_quant_type,
    }
    layer = bnb.nn.Linear4bit(
        full.in_features,
        full.out_features,
        bias=full.bias is not None,
        compute_dtype=chosen.bnb_4bit_compute_dtype,
        device="meta",
        **options,
    )
    weight = full.weight.detach()
    # Moving it to a device, even the one where it is, is what quantises it.
    layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, **options).to(weight.device)
    layer.bias = full.bias
    return layer


def _make_buffers(model: nn.Module, device: str) -> None:
    """GLM's rotary frequencies are no weights: a new module of the class computes them."""
    for parent, name, module in list(_leaves(model)):
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            setattr(parent, name, type(module)(module.config).to(device))
