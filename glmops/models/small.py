"""A small GLM with random weights: the base of recipes that train their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glmops.recipe import ScratchBase

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def small_glm(
    settings: ScratchBase, tokenizer: PreTrainedTokenizerFast, *, max_tokens: int, seed: int
) -> Any:
    """A ``GlmForCausalLM`` in fp32 on the CPU; one seed gives one set of weights.

    Input and output embeddings are tied: at this size they are a large part of the model, and a
    token that the base saw only in prompts would otherwise start with an untrained output row.

    Args:
        max_tokens: Longest row, prompt and answer together.
    """
    import torch
    from transformers import GlmConfig, GlmForCausalLM

    config = GlmConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        head_dim=settings.hidden_size // settings.heads,
        max_position_embeddings=max_tokens,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        dtype="float32",
    )
    torch.manual_seed(seed)
    return GlmForCausalLM(config)
