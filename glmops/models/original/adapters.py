"""`glmops import-adapter`: an adapter of the published GLM code → a native one, or the way back.

A prefix has the same tensors on both sides; for a LoRA see lora_names.py. No file appears before
all of them are whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glmops.errors import InputError, RecipeError
from glmops.models.identity import RECORD, identity_of_folder, require_base, source_identity
from glmops.models.original.lora import read_lora, write_lora
from glmops.models.original.lora_names import to_native, to_original
from glmops.models.original.prefixes import (
    is_official_prefix,
    original_settings,
    read_official_prefix,
    write_official_prefix,
)
from glmops.models.original.recognise import recognise
from glmops.models.original.settings import native_config
from glmops.models.weights import weight_files
from glmops.storage import fresh_folder, read_json, sha256_file, write_json

SIDES = ("native", "original")
PREFIX, LORA = "prefix", "LoRA"


def import_adapter(source: Path, target: Path, *, base: Path, to: str = "native") -> str:
    """The adapter in ``source``, in the form of the other side, in the new folder ``target``.

    Args:
        base: The model it was trained on, native or in the original format.
        to: "native": from an official prefix or a remote-code LoRA. "original": the way back.
    Returns:
        What it was: "prefix" or "LoRA".
    Raises:
        InputError: Something in ``source`` cannot be used or does not fit ``base``, or ``target``
            is in use. Nothing is written then.
        RecipeError: ``to`` is neither of the two.
    """
    if to not in SIDES:
        raise RecipeError("to", "unknown name", got=to, do=f"Known: {', '.join(SIDES)}.")
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise InputError(target, "exists already", do="Give a new folder, or remove it.")
    if not source.is_dir():
        raise InputError(source, "no such folder", do="Give the folder of an adapter.")
    config = base_config(base)
    if (source / "adapter_config.json").is_file():
        _convert_lora(source, target, base, config, to)
        return LORA
    if to == "native" and is_official_prefix(source):
        _import_prefix(source, target, base, config)
    elif to == "original" and (source / "prefix_config.json").is_file():
        _export_prefix(source, target, base, config)
    else:
        raise InputError(
            source,
            f"holds nothing that could become {to}",
            got=", ".join(sorted(path.name for path in source.iterdir())) or "an empty folder",
            do="Give a LoRA (adapter_config.json), or a prefix with its prefix_config.json or with "
            "its config.json of the published code.",
        )
    return PREFIX


def base_config(base: Path) -> Any:
    """The native configuration of a base folder in either format.

    Raises:
        InputError: It holds no GLM of which the published code trains adapters.
    """
    if not (base / "config.json").is_file():
        raise InputError(base, "no config.json in it", do="Give the folder of the base model.")
    original = recognise(base)
    if original is not None:
        return native_config(original, "float32")
    settings = read_json(base / "config.json")
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    if kind == "chatglm-6b":
        from glmops.models.chatglm.configuration import ChatGLMConfig

        return ChatGLMConfig.from_pretrained(str(base), local_files_only=True)
    if kind == "glm":
        from transformers import GlmConfig

        return GlmConfig.from_pretrained(str(base), local_files_only=True)
    raise InputError(
        base / "config.json",
        "not a model whose published code trains adapters",
        got=kind,
        do="Give ChatGLM-6B, ChatGLM2-6B, ChatGLM3-6B or GLM-4-9B, imported or as published.",
    )


def _identity(base: Path) -> dict[str, str] | None:
    """That of the base; one in the original format is hashed whole, which its import did too."""
    if recognise(base) is None:
        return identity_of_folder(base)
    return source_identity({file.name: sha256_file(file) for file in weight_files(base)})


def _convert_lora(source: Path, target: Path, base: Path, config: Any, to: str) -> None:
    lora, identity = read_lora(source), _identity(base)
    if (source / RECORD).is_file():
        require_base(identity, read_json(source / RECORD), source)
    lora = (to_native if to == "native" else to_original)(lora, config, source)
    with fresh_folder(target) as draft:
        write_lora(lora, draft, layers=config.num_hidden_layers, pickled=to == "original")
        if to == "native" and identity:
            write_json(draft / RECORD, identity)


def _import_prefix(source: Path, target: Path, base: Path, config: Any) -> None:
    from glmops.models.prefix.files import require_shape, write_prefix

    stored, tensors = read_official_prefix(source)
    require_shape(stored, config, source)
    known = stored.model_copy(update={"base": _identity(base)})
    with fresh_folder(target) as draft:
        write_prefix(known, tensors, draft)


def _export_prefix(source: Path, target: Path, base: Path, config: Any) -> None:
    from glmops.models.prefix.files import read_prefix, require_shape

    stored, tensors = read_prefix(source)
    require_base(_identity(base), stored.base, source)
    require_shape(stored, config, source)
    settings = original_settings(base, config)
    with fresh_folder(target) as draft:
        write_official_prefix(stored, tensors, draft, settings)
