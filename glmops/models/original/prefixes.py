"""Prefixes as the official P-tuning v2 scripts store them, read and written.

`pytorch_model.bin` holds the encoder alone, under `transformer.prefix_encoder.`; the length and
the projection stand in a copy of the base's config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError
from glmops.models.original.recognise import Original, recognise
from glmops.models.original.settings import native_config
from glmops.models.weights import open_tensors, weight_files
from glmops.storage import read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from glmops.models.prefix.files import PrefixConfig

LENGTH, PROJECTION = "pre_seq_len", "prefix_projection"
NAMES = ("transformer.prefix_encoder.", "prefix_encoder.", "")  # as found in published files
DROPOUT = 0.1  # a constant of the published code


def is_official_prefix(folder: Path) -> bool:
    """Whether the config.json in ``folder`` is that of an official prefix."""
    if not (folder / "config.json").is_file():
        return False
    settings = read_json(folder / "config.json")
    return (
        isinstance(settings, dict)
        and settings.get("model_type") == "chatglm"
        and bool(settings.get(LENGTH))
    )


def read_official_prefix(folder: Path) -> tuple[PrefixConfig, dict[str, Tensor]]:
    """The prefix in ``folder``; its base is not named there.

    Raises:
        InputError: A setting is wrong, the file is absent, cut short or holds code, or its tensors
            are not those of a prefix of the settings' shape, length and projection.
    """
    from glmops.models.prefix.encoder import shape_of
    from glmops.models.prefix.files import config_of, require_tensors

    original = recognise(folder)
    if original is None or not is_official_prefix(folder):
        raise InputError(
            folder, f"no config.json with {LENGTH} in it", do="Give an official P-tuning folder."
        )
    length, projection = original.setting(LENGTH), original.settings.get(PROJECTION) or False
    if length < 1 or not isinstance(projection, bool):
        raise InputError(
            original.where,
            f"{LENGTH} must be above 0 and {PROJECTION} true or false",
            got=f"{length} and {projection}",
            do="Copy the prefix again.",
        )
    own = {k: v for k, v in original.settings.items() if k not in (LENGTH, PROJECTION)}
    shape = shape_of(native_config(replace(original, settings=own), "float32"))
    config = config_of(shape, length=length, projection=projection, dropout=DROPOUT)
    files = weight_files(folder)
    if len(files) != 1:
        raise InputError(
            folder,
            "no pytorch_model.bin in it" if not files else "weights in several files",
            do="Give the checkpoint folder that the P-tuning script wrote.",
        )
    tensors = _stripped(open_tensors(files[0]), files[0])
    require_tensors(config, tensors, files[0])
    return config, tensors


def write_official_prefix(
    config: PrefixConfig, tensors: Mapping[str, Tensor], folder: Path, settings: Mapping[str, Any]
) -> None:
    """The two files that the official scripts read with ``--ptuning_checkpoint``.

    Args:
        settings: The base's own config.json; see ``original_settings``.
    """
    import torch

    named = {f"{NAMES[0]}{name}": each.detach().cpu().float() for name, each in tensors.items()}
    torch.save(named, folder / "pytorch_model.bin")
    own = {LENGTH: config.length, PROJECTION: config.projection}
    write_json(folder / "config.json", {**settings, **own})


def original_settings(folder: Path, config: Any) -> dict[str, Any]:
    """The config.json that the published code would have for this base.

    Args:
        folder: Of the base: where it is in the original format, this is its own file.
        config: Its native configuration.
    """
    original: Original | None = recognise(folder)
    if original is not None:
        return dict(original.settings)
    if config.model_type == "chatglm-6b":
        return _first(config)
    rope = config.rope_parameters
    if rope.get("rope_type", "default") != "default":
        raise InputError(
            folder,
            "its rotation cannot be written as an original config.json",
            got=rope,
            do="Give the original-format folder of the base.",
        )
    ratio = rope["rope_theta"] / 10000
    return {**_later(config), **({} if ratio == 1 else {"rope_ratio": ratio})}


def _first(config: Any) -> dict[str, Any]:
    same = ("hidden_size", "vocab_size", "num_attention_heads", "position_encoding_2d")
    ids = ("bos_token_id", "eos_token_id", "pad_token_id", "mask_token_id", "gmask_token_id")
    return {
        "model_type": "chatglm",
        **{name: getattr(config, name) for name in (*same, *ids)},
        "num_layers": config.num_hidden_layers,
        "inner_hidden_size": config.intermediate_size,
        "max_sequence_length": config.max_position_embeddings,
        "layernorm_epsilon": config.layer_norm_eps,
    }


def _later(config: Any) -> dict[str, Any]:
    same = ("hidden_size", "num_attention_heads", "attention_dropout")
    ids = ("eos_token_id", "pad_token_id")
    return {
        "model_type": "chatglm",
        **{name: getattr(config, name) for name in (*same, *ids)},
        "padded_vocab_size": config.vocab_size,
        "num_layers": config.num_hidden_layers,
        "multi_query_attention": True,
        "multi_query_group_num": config.num_key_value_heads,
        "kv_channels": config.head_dim,
        "ffn_hidden_size": config.intermediate_size,
        "seq_length": config.max_position_embeddings,
        "layernorm_epsilon": config.rms_norm_eps,
        "add_qkv_bias": config.attention_bias,
        "add_bias_linear": False,
        "rmsnorm": True,
        "post_layer_norm": True,
        "original_rope": True,
    }


def _stripped(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The encoder's own names. A file with anything else in it is not a prefix alone."""
    encoder = ("embedding.", "trans.")
    lead = next((each for each in NAMES if all(name.startswith(each) for name in tensors)), "")
    stripped = {name.removeprefix(lead): each for name, each in tensors.items()}
    foreign = sorted(name for name in stripped if not name.startswith(encoder))
    if foreign or not tensors:
        raise InputError(
            file,
            "not the tensors of a prefix encoder alone",
            got=f"{len(tensors)} tensors" + (f", among them {foreign[0]}" if foreign else ""),
            do="Give the checkpoint folder that the P-tuning script wrote.",
        )
    return stripped
