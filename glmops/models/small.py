"""Small models with random weights: those that recipes train themselves, and smoke-run widths."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from glmops.errors import RecipeError
from glmops.models.tokenizers import special_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from glmops.recipe import ScratchBase

_LAYERS = 2
_WIDTH = 64
# Model types whose sizes are all named in ``tiny``. A mixture of experts has more of them.
_DENSE = (
    "chatglm-6b",
    "glm",
    "glm4",
    "gpt2",
    "llama",
    "mistral",
    "openai-gpt",
    "qwen2",
    "qwen3",
)


def tiny(config: Any) -> Any:
    """The same architecture at widths that a CPU trains in minutes.

    Only sizes change: 2 layers, a hidden size of 32 to 128, and what follows from it. Heads per
    key-value group, biases, the rotary fraction, tied or untied embeddings, the vocabulary and the
    special ids stay, so that the tokenizer still fits and each code path is still taken.

    Args:
        config: A transformers config of a dense decoder. It is not changed.
    Raises:
        RecipeError: A model type whose sizes are not all known here.
    """
    if config.model_type not in _DENSE:
        raise RecipeError(
            "model_type",
            "no tiny widths are known for it",
            got=config.model_type,
            do=f"Known: {', '.join(_DENSE)}.",
        )
    values = {name: value for name, value in config.to_dict().items() if name != "model_type"}
    sizes = {config.attribute_map.get(name, name): size for name, size in _sizes(config).items()}
    sizes = {name: size for name, size in sizes.items() if values.get(name)}
    # transformers fills some lists with one entry per layer (qwen2: the kind of its attention).
    per_layer = {
        name: value[:_LAYERS]
        for name, value in values.items()
        if isinstance(value, list) and len(value) == config.num_hidden_layers
    }
    return type(config)(**{**values, **per_layer, **sizes})


def _sizes(config: Any) -> dict[str, int]:
    """The new sizes by transformers' common names, those that ``config`` lacks included."""
    heads, groups = config.num_attention_heads, getattr(config, "num_key_value_heads", None)
    per_group = heads // groups if groups else 1
    # Two groups where there were several, so that mixing them up would show.
    few_groups = max(min(groups or 1, 2), -(-4 // per_group))
    few_heads = per_group * few_groups
    # The rotary halves of ChatGLM-6B and the rotated half of a GLM head come in pairs: 4 | width.
    head = max(4, _WIDTH // few_heads // 4 * 4)
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    hidden = few_heads * head * config.hidden_size // (heads * width)
    sizes = {
        "hidden_size": hidden,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": few_heads,
        "num_key_value_heads": few_groups,
        "head_dim": head,
    }
    # GPT-1 has no such field, and GPT-2 leaves it empty: four times the width, in both.
    for name in ("intermediate_size", "n_inner"):
        if size := getattr(config, name, None):
            # In whole blocks of 64, which is what 4-bit weights are stored in.
            sizes[name] = max(1, round(size / config.hidden_size * hidden / 64)) * 64
    return sizes


def small_glm(
    settings: ScratchBase, tokenizer: PreTrainedTokenizerFast, *, max_tokens: int, seed: int
) -> Any:
    """A ``GlmForCausalLM`` in fp32 on the CPU; one seed gives one set of weights.

    Input and output embeddings are tied: at this size they are a large part of the model, and a
    token that the base saw only in prompts would otherwise start with an untrained output row.

    Args:
        max_tokens: Longest row, prompt and answer together.
    Raises:
        RecipeError: A head's width does not divide by 4: half of it is rotated, in pairs.
    """
    import torch
    from transformers import GlmConfig, GlmForCausalLM

    _require_quarters(settings)
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


def small_chatglm(
    settings: ScratchBase, tokenizer: PreTrainedTokenizerFast, *, max_tokens: int, seed: int
) -> Any:
    """A ``ChatGLMForCausalLM`` (ChatGLM-6B's architecture), as ``small_glm`` otherwise.

    Raises:
        RecipeError: As ``small_glm``, or ``kv_heads`` is not ``heads``.
    """
    import torch

    from glmops.models.chatglm.configuration import ChatGLMConfig
    from glmops.models.chatglm.modeling import ChatGLMForCausalLM

    _require_quarters(settings)
    _require_own_keys(settings)
    start, end, mask, gmask = special_ids(("<sop>", "<eop>", "[MASK]", "[gMASK]"), tokenizer)
    config = ChatGLMConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=max_tokens,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=start,
        # Its own end of an answer, and the end of text that our tokenizers know.
        eos_token_id=[end, tokenizer.eos_token_id],
        mask_token_id=mask,
        gmask_token_id=gmask,
        dtype="float32",
    )
    torch.manual_seed(seed)
    return ChatGLMForCausalLM(config)


def small_gpt1(
    settings: ScratchBase,
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_tokens: int,
    seed: int,
    dropout: float = 0.1,
) -> Any:
    """An ``OpenAIGPTLMHeadModel``, as ``small_glm`` otherwise; it keeps no cache.

    A folder that holds it also opens as transformers' ``OpenAIGPTForSequenceClassification`` or
    ``OpenAIGPTDoubleHeadsModel``; only their own head is new there.

    Args:
        dropout: The published model's, after embeddings, attention and each residual branch.
    Raises:
        RecipeError: ``kv_heads`` is not ``heads``, or ``intermediate_size`` is not four times
            ``hidden_size``, which is fixed in this architecture.
    """
    import torch
    from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

    _require_own_keys(settings)
    if settings.intermediate_size != 4 * settings.hidden_size:
        raise RecipeError(
            "train.base.intermediate_size",
            f"GPT-1 has no other than 4 times hidden_size ({settings.hidden_size})",
            got=settings.intermediate_size,
            do=f"Set it to {4 * settings.hidden_size}.",
        )
    config = OpenAIGPTConfig(**_gpt_fields(settings, tokenizer, max_tokens, dropout))
    torch.manual_seed(seed)
    return _with_next_token_loss(OpenAIGPTLMHeadModel(config))


def small_gpt2(
    settings: ScratchBase,
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_tokens: int,
    seed: int,
    dropout: float = 0.1,
) -> Any:
    """A ``GPT2LMHeadModel``: as ``small_gpt1``, but of any inner width, and with a cache."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    _require_own_keys(settings)
    config = GPT2Config(
        **_gpt_fields(settings, tokenizer, max_tokens, dropout), n_inner=settings.intermediate_size
    )
    torch.manual_seed(seed)
    return _with_next_token_loss(GPT2LMHeadModel(config))


ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "glm": small_glm,
    "chatglm": small_chatglm,
    "gpt1": small_gpt1,
    "gpt2": small_gpt2,
}
"""Models from scratch: ``(settings, tokenizer, *, max_tokens, seed) -> model``."""


def _gpt_fields(
    settings: ScratchBase, tokenizer: PreTrainedTokenizerFast, max_tokens: int, dropout: float
) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "n_positions": max_tokens,
        "n_embd": settings.hidden_size,
        "n_layer": settings.layers,
        "n_head": settings.heads,
        "resid_pdrop": dropout,
        "embd_pdrop": dropout,
        "attn_pdrop": dropout,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "dtype": "float32",
    }


def _with_next_token_loss(model: Any) -> Any:
    """transformers derives the loss from the class's name, fails at these, and logs that it did."""
    model.loss_type = "ForCausalLM"
    return model


def _require_own_keys(settings: ScratchBase) -> None:
    if settings.kv_heads != settings.heads:
        raise RecipeError(
            "train.base.kv_heads",
            f"in this architecture each of the {settings.heads} heads has its own keys",
            got=settings.kv_heads,
            do=f"Set it to {settings.heads}.",
        )


def _require_quarters(settings: ScratchBase) -> None:
    if (width := settings.hidden_size // settings.heads) % 4:
        raise RecipeError(
            "train.base.heads",
            "hidden_size / heads must divide by 4 for the rotary positions",
            got=width,
            do="Change heads or hidden_size.",
        )
