"""Is this folder an original-format GLM checkpoint, and which one? Told from its files alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glmops.errors import InputError
from glmops.storage import read_json

Kind = Literal["chatglm-6b", "chatglm2-6b", "chatglm3-6b", "glm-4-9b"]

# Keys that only one of the two config classes has. model_type is "chatglm" for all of them.
_FIRST = ("inner_hidden_size", "position_encoding_2d")
_LATER = ("padded_vocab_size", "multi_query_group_num")


@dataclass(frozen=True, slots=True)
class Original:
    """An original-format checkpoint folder. ``bits`` is 8 or 4 in the official quantised releases,
    else 0."""

    folder: Path
    kind: Kind
    settings: Mapping[str, Any]
    bits: int

    @property
    def where(self) -> Path:
        """The file whose settings are wrong when they are."""
        return self.folder / "config.json"

    def setting(self, key: str, kind: type | tuple[type, ...] = int) -> Any:
        """A value of config.json that the model cannot do without.

        Raises:
            InputError: It is absent, or of another type.
        """
        value = self.settings.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(
                self.where, f"{key} is missing or no number", got=value, do="Copy it again."
            )
        return value


def recognise(folder: Path) -> Original | None:
    """The original-format checkpoint in ``folder``; None when it is of any other kind.

    Raises:
        InputError: It says that it is a ChatGLM, but not one of those that can be imported.
    """
    settings = _settings(folder)
    if settings is None or settings.get("model_type") != "chatglm":
        return None
    if any(key in settings for key in _LATER):
        kind = _later_kind(folder, settings)
    elif any(key in settings for key in _FIRST):
        kind = "chatglm-6b"
    else:
        raise InputError(
            folder / "config.json",
            "model_type is 'chatglm', but the keys are of no known GLM",
            got=sorted(settings),
            do="Supported: ChatGLM-6B, ChatGLM2-6B, ChatGLM3-6B and GLM-4-9B.",
        )
    return Original(folder, kind, settings, _bits(folder, settings))


def _settings(folder: Path) -> dict[str, Any] | None:
    if not (folder / "config.json").is_file():
        return None
    settings = read_json(folder / "config.json")
    return settings if isinstance(settings, dict) else None


def _later_kind(folder: Path, settings: Mapping[str, Any]) -> Kind:
    """ChatGLM2, ChatGLM3 and GLM-4 share one config class; stop ids, names and the mention of roles
    tell them apart, as for their tokenizers.

    The weights mean the same in all three, so a wrong guess here changes no number.
    """
    if isinstance(settings.get("eos_token_id"), list):
        return "glm-4-9b"
    if "chatglm3" in published_name(folder, settings):
        return "chatglm3-6b"
    for name in ("tokenizer_config.json", "tokenization_chatglm.py"):  # read as text, never run
        file = folder / name
        if file.is_file() and "<|assistant|>" in file.read_text(encoding="utf-8", errors="replace"):
            return "chatglm3-6b"
    return "chatglm2-6b"


def published_name(folder: Path, settings: Mapping[str, Any]) -> str:
    """The names under which config and tokenizer were published, in lower case."""
    names = [settings.get("_name_or_path")]
    if (folder / "tokenizer_config.json").is_file():
        tokenizer = read_json(folder / "tokenizer_config.json")
        if isinstance(tokenizer, dict):
            names += [tokenizer.get("name_or_path"), tokenizer.get("_name_or_path")]
    return " ".join(str(name) for name in names if name).lower()


def _bits(folder: Path, settings: Mapping[str, Any]) -> int:
    bits = settings.get("quantization_bit") or 0
    if bits not in (0, 4, 8):
        raise InputError(
            folder / "config.json", "quantization_bit must be 4 or 8", got=bits, do="Copy it again."
        )
    if settings.get("quantization_embeddings"):
        raise InputError(
            folder / "config.json",
            "quantization_embeddings is set: quantised embeddings are not supported",
            do="Use the release whose embeddings are float16 (chatglm-6b-int4 or -int8).",
        )
    return int(bits)
