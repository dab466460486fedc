"""An original-format folder → a model in memory, converted tensor by tensor. No file is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError
from glmops.models.original.reading import (
    LazyTensor,
    Reader,
    native_tensors,
    require_equal_copies,
    stored_tensors,
)
from glmops.models.original.recognise import Original, recognise
from glmops.models.original.settings import native_config
from glmops.models.tokenizers import load_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

_GLM = ("chatglm-6b", "glm", "glm4")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "ice_text.model")


@dataclass(frozen=True, slots=True)
class Opened:
    """What ``from_pretrained`` needs: the class, its config, and the weights by native name."""

    model_class: Any
    config: Any
    weights: dict[str, LazyTensor]


def open_original(original: Original) -> Opened:
    """Check the whole checkpoint; read no values yet.

    Raises:
        InputError: A setting, a file or a tensor of it cannot be used.
    """
    native_config(original, "float32")  # refuses what no native model can do, before any file opens
    stored = stored_tensors(original)
    natives = native_tensors(original, stored, None)
    reader = Reader(original, stored)
    require_equal_copies(original, reader)
    weights = {native.name: LazyTensor(reader, native) for native in natives}
    config = native_config(original, dtype_name(natives[0].dtype))
    return Opened(model_class(original), config, weights)


def model_class(original: Original) -> Any:
    """The native class of a kind."""
    if original.kind == "chatglm-6b":
        from glmops.models.chatglm.modeling import ChatGLMForCausalLM

        return ChatGLMForCausalLM
    from transformers import GlmForCausalLM

    return GlmForCausalLM


def dtype_name(dtype: torch.dtype) -> str:
    """torch.float16 → "float16"."""
    return str(dtype).removeprefix("torch.")


def require_native(folder: Path) -> None:
    """For commands that store or hash the native weights.

    Raises:
        InputError: ``folder`` holds an original-format checkpoint; the message has the command
            that imports it.
    """
    if recognise(folder) is not None:
        raise InputError(
            folder,
            "an original-format GLM checkpoint, but native weights are needed here",
            do=f"Run `glmops import-model {folder} {folder.name}-native` and give that folder.",
        )


def optional_tokenizer(folder: Path) -> Any:
    """The tokenizer in ``folder``, or None where the checkpoint came without any.

    Quantised weights are often passed on alone; what is computed from ids does not need it.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return None
    return load_tokenizer(folder)


def require_tokenizer_of_the_model(
    folder: Path | str, settings: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast | None
) -> None:
    """Another family's tokenizer gives ids that mean nothing here, and no error to show for it.

    Args:
        settings: The native config.json.
        tokenizer: None passes: there is nothing to compare.
    Raises:
        InputError: The tokenizer in ``folder`` is not the model's.
    """
    if tokenizer is None:
        return
    size = settings.get("vocab_size")
    stops = settings.get("eos_token_id")
    gmask = tokenizer.convert_tokens_to_ids("[gMASK]")
    fault = ""
    if isinstance(size, int) and tokenizer.vocab_size > size:
        fault = f"its tokenizer has {tokenizer.vocab_size} tokens, more than the model's {size}"
    elif settings.get("model_type") in _GLM:
        if gmask in (None, tokenizer.unk_token_id):
            fault = "its tokenizer has no [gMASK], so it is not a GLM's"
        elif settings.get("gmask_token_id", gmask) != gmask:
            fault = (
                f"config.json has [gMASK] as {settings['gmask_token_id']}, its tokenizer {gmask}"
            )
        elif tokenizer.eos_token_id not in (stops if isinstance(stops, list) else [stops, None]):
            fault = f"its tokenizer ends with id {tokenizer.eos_token_id}, the model with {stops}"
    if fault:
        raise InputError(folder, fault, do="Copy the checkpoint again, its own tokenizer included.")
