"""An original config.json → the configuration of the native model, or a refusal by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glmops.errors import GlmopsError, InputError
from glmops.models.original.recognise import Original, published_name

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerFast

_NUMBER = (int, float)

# What GlmForCausalLM does whatever its config says. An absent key has the value shown here.
_FIXED: dict[str, object] = {
    "add_bias_linear": False,
    "rmsnorm": True,
    "post_layer_norm": True,
    "apply_residual_connection_post_layernorm": False,
    "multi_query_attention": True,
    "original_rope": True,
    "fp32_residual_connection": False,
    "tie_word_embeddings": False,
    "hidden_dropout": 0.0,
    "interleaved_qkv": False,
}
_FOREIGN = ("vision_config", "vit_config", "boi_token_id")

# Special ids of the two published ChatGLM-6B vocabularies. The class of the first release had them
# in its code, so that its config.json does not name them all.
_FIRST_IDS = {
    130528: {
        "bos_token_id": 130004,
        "eos_token_id": 130005,
        "mask_token_id": 130000,
        "gmask_token_id": 130001,
        "pad_token_id": 3,
    },
    150528: {
        "bos_token_id": 150004,
        "eos_token_id": 150005,
        "mask_token_id": 150000,
        "gmask_token_id": 150001,
        "pad_token_id": 20003,
    },
}


def native_config(original: Original, dtype: str) -> Any:
    """The ``ChatGLMConfig`` or ``GlmConfig`` under which the imported weights compute the same.

    Args:
        dtype: What ``load(…, dtype="auto")`` shall use, e.g. "float16".
    Raises:
        InputError: A setting is missing, or asks for what the native model cannot do.
    """
    if original.settings.get("pre_seq_len"):
        raise InputError(
            original.where,
            "a P-tuning checkpoint (pre_seq_len is set), not a whole model",
            got=original.settings["pre_seq_len"],
            do="Take the prefix with `glmops import-adapter SRC DST --base DIR`; for the model, "
            "give the folder of the base it was trained on.",
        )
    try:
        if original.kind == "chatglm-6b":
            return _chatglm_config(original, dtype)
        return _glm_config(original, dtype)
    except GlmopsError:
        raise
    except Exception as error:  # transformers' own checks of a config raise what they like
        raise InputError(
            original.where, f"a setting cannot be used ({error})", do="Copy it again."
        ) from error


def native_generation(
    original: Original, tokenizer: PreTrainedTokenizerFast | None
) -> GenerationConfig:
    """Stop, padding and start ids, nothing else: how to sample is for the caller to say.

    A tokenizer that knows roles (ChatGLM3's) also ends an answer where somebody else's turn begins.
    """
    from transformers import GenerationConfig

    ids = special_ids(original)
    stops = list(ids["eos_token_id"])
    if original.kind in ("chatglm2-6b", "chatglm3-6b") and tokenizer is not None:
        known = tokenizer.get_added_vocab()
        stops += [known[role] for role in ("<|user|>", "<|observation|>") if role in known]
    return GenerationConfig(
        bos_token_id=ids.get("bos_token_id"),
        eos_token_id=stops if len(stops) > 1 else stops[0],
        pad_token_id=ids["pad_token_id"],
    )


def special_ids(original: Original) -> dict[str, Any]:
    """The ids that config.json names, and those that the original class had as defaults.

    ``eos_token_id`` is a list here, of one or more.
    """
    settings = original.settings
    names: tuple[str, ...] = ("eos_token_id", "pad_token_id")
    defaults: dict[str, int] = {"eos_token_id": 2, "pad_token_id": 0}
    if original.kind == "chatglm-6b":
        names += ("bos_token_id", "mask_token_id", "gmask_token_id")
        defaults = _FIRST_IDS.get(original.setting("vocab_size"), {})
    ids: dict[str, Any] = {}
    for name in names:
        value = settings.get(name)
        ids[name] = defaults.get(name) if value is None else value
    stops = ids["eos_token_id"]
    ids["eos_token_id"] = stops if isinstance(stops, list) else [stops]
    vocabulary = original.setting(_vocabulary_key(original))
    for name, value in ids.items():
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, int) or not 0 <= one < vocabulary:
                raise InputError(
                    original.where,
                    f"{name} must be an id below the vocabulary's {vocabulary}",
                    got=value,
                    do="Write the ids of the tokenizer into config.json.",
                )
    return ids


def _vocabulary_key(original: Original) -> str:
    return "vocab_size" if original.kind == "chatglm-6b" else "padded_vocab_size"


def _chatglm_config(original: Original, dtype: str) -> Any:
    from glmops.models.chatglm.configuration import ChatGLMConfig

    ids = special_ids(original)
    hidden = original.setting("hidden_size")
    config = ChatGLMConfig(
        vocab_size=original.setting("vocab_size"),
        hidden_size=hidden,
        intermediate_size=original.settings.get("inner_hidden_size") or 4 * hidden,
        num_hidden_layers=original.setting("num_layers"),
        num_attention_heads=original.setting("num_attention_heads"),
        max_position_embeddings=original.settings.get("max_sequence_length") or 2048,
        layer_norm_eps=original.settings.get("layernorm_epsilon") or 1e-5,
        position_encoding_2d=bool(original.settings.get("position_encoding_2d", True)),
        use_cache=True,
        dtype=dtype,
        **{**ids, "eos_token_id": ids["eos_token_id"][0]},
    )
    config.architectures = ["ChatGLMForCausalLM"]
    return config


def _glm_config(original: Original, dtype: str) -> Any:
    from transformers import GlmConfig

    _refuse_what_glm_cannot_do(original)
    settings, ids = original.settings, special_ids(original)
    stops = ids["eos_token_id"]
    config = GlmConfig(
        vocab_size=original.setting("padded_vocab_size"),
        hidden_size=original.setting("hidden_size"),
        intermediate_size=original.setting("ffn_hidden_size"),
        num_hidden_layers=original.setting("num_layers"),
        num_attention_heads=original.setting("num_attention_heads"),
        num_key_value_heads=original.setting("multi_query_group_num"),
        head_dim=original.setting("kv_channels"),
        hidden_act="silu",
        attention_dropout=settings.get("attention_dropout") or 0.0,
        max_position_embeddings=original.setting("seq_length"),
        rms_norm_eps=original.setting("layernorm_epsilon", _NUMBER),
        use_cache=True,
        tie_word_embeddings=False,
        rope_parameters=_rope(original),
        pad_token_id=ids["pad_token_id"],
        eos_token_id=stops if len(stops) > 1 else stops[0],
        bos_token_id=None,
        attention_bias=bool(settings.get("add_qkv_bias", False)),
        dtype=dtype,
    )
    config.architectures = ["GlmForCausalLM"]
    return config


def _rope(original: Original) -> dict[str, Any]:
    """``rope_ratio`` raises the base, except in ChatGLM2-6B-32K, where it divides the positions."""
    ratio = original.settings.get("rope_ratio", 1)
    if not isinstance(ratio, _NUMBER) or isinstance(ratio, bool) or ratio <= 0:
        raise InputError(
            original.where, "rope_ratio must be a number above 0", got=ratio, do="Copy it again."
        )
    rope: dict[str, Any] = {"rope_type": "default", "partial_rotary_factor": 0.5}
    if ratio != 1 and "chatglm2-6b-32k" in published_name(original.folder, original.settings):
        return {**rope, "rope_type": "linear", "factor": float(ratio), "rope_theta": 10000.0}
    return {**rope, "rope_theta": 10000.0 * ratio}


def _refuse_what_glm_cannot_do(original: Original) -> None:
    for key, value in _FIXED.items():
        if (found := original.settings.get(key, value)) not in (value, None):
            raise InputError(
                original.where,
                f"{key} must be {value}: no native model computes it otherwise",
                got=found,
                do="Use one of the published checkpoints.",
            )
    for key in _FOREIGN:
        if original.settings.get(key) is not None:
            raise InputError(
                original.where,
                f"{key} is set: not a language model alone",
                do="Supported: ChatGLM-6B, ChatGLM2-6B, ChatGLM3-6B and GLM-4-9B.",
            )
    layers, also = original.settings.get("num_layers"), original.settings.get("num_hidden_layers")
    if also not in (None, layers):
        raise InputError(
            original.where, f"num_layers is {layers}, num_hidden_layers {also}", do="Copy it again."
        )
