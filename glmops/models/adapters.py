"""An adapter folder on top of a loaded model: peft's LoRA, or a P-tuning prefix, unmerged.

The kind is told from the file names. What does not fit the model is refused by name; peft finds
that out on the way, so a model that refused a LoRA is to be thrown away.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glmops.errors import InputError
from glmops.models.identity import RECORD, identity_of_model, require_base
from glmops.models.original.prefixes import is_official_prefix, read_official_prefix
from glmops.models.quantization import quieten
from glmops.models.weights import require_whole
from glmops.storage import read_json

LORA_CONFIG, LORA_WEIGHTS, LORA_PICKLE = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
REMOTE = "transformer.encoder.layers."  # ChatGLM2 and later, in the published code
PREFIX_CONFIG = "prefix_config.json"


def with_adapter(model: Any, folder: Path | str) -> Any:
    """``model`` with the adapter in ``folder``: a peft LoRA, a native or an official prefix.

    Raises:
        InputError: The folder holds no adapter or two, a file of it is missing or cut short, or
            it was made for another model.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "no such folder", do="Give the folder of an adapter.")
    kinds: dict[str, Callable[[Any, Path], Any]] = {}
    if (folder / LORA_CONFIG).is_file():
        kinds["a peft adapter"] = _with_lora
    if (folder / PREFIX_CONFIG).is_file():
        kinds["a prefix"] = _with_prefix
    if is_official_prefix(folder):
        kinds["an official prefix"] = _with_official_prefix
    if len(kinds) != 1:
        raise InputError(
            folder,
            f"{' and '.join(kinds)} in one folder"
            if kinds
            else f"no {LORA_CONFIG} in it, nor {PREFIX_CONFIG}, nor a config.json with pre_seq_len",
            do="Give a folder with one adapter: a peft LoRA or a P-tuning prefix.",
        )
    [put] = kinds.values()
    return put(model, folder)


def _with_prefix(model: Any, folder: Path) -> Any:
    from glmops.models.prefix import load_prefix

    return load_prefix(model, folder)


def _with_official_prefix(model: Any, folder: Path) -> Any:
    from glmops.models.prefix.files import put_prefix

    config, tensors = read_official_prefix(folder)
    return put_prefix(model, config, tensors, folder)


def _with_lora(model: Any, folder: Path) -> Any:
    quieten()
    from peft import PeftModel, get_peft_model_state_dict

    stored = _lora_names(model, folder)
    if (folder / RECORD).is_file():
        require_base(identity_of_model(model), read_json(folder / RECORD), folder)
    with warnings.catch_warnings():
        # peft warns about gaps and goes on with random numbers; the check below is an error.
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        # peft 0.21 still asks transformers 5.23 by the old name of activation checkpointing.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        # What an unknown setting meant would be lost, enable_lora of the first releases for one.
        warnings.filterwarnings("error", "Unexpected keyword arguments")
        try:
            adapted = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
        except (RuntimeError, ValueError, TypeError, UserWarning) as error:
            raise InputError(
                folder, f"does not fit this base ({error})", do="Give the base it was trained on."
            ) from error
    # Embeddings are never in it; asked for "auto", peft looks for the base on the network.
    own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    if wrong := sorted(stored ^ set(own)):
        raise InputError(
            folder / LORA_WEIGHTS,
            f"{len(wrong)} tensors are missing or of another model",
            got=wrong[0],
            do="Give the base it was trained on, or copy the adapter again.",
        )
    return adapted


def _lora_names(model: Any, folder: Path) -> set[str]:
    """The names of its tensors; refused where they are those of the remote code."""
    from safetensors import safe_open

    import_it = (
        f"Run `glmops import-adapter {folder} {folder.name}-native --base DIR`, with the folder "
        "of this model as DIR."
    )
    weights = folder / LORA_WEIGHTS
    if not weights.is_file():
        pickled = (folder / LORA_PICKLE).is_file()
        raise InputError(
            folder,
            f"no {LORA_WEIGHTS} in it" + (" (pickled weights are not opened)" if pickled else ""),
            do=import_it if pickled else "Give the folder of a peft adapter.",
        )
    require_whole(weights)
    with safe_open(weights, framework="pt") as file:
        stored = set(file.keys())
    if modules := [name for name in stored if REMOTE in name]:
        raise InputError(
            weights,
            "its tensors have the module names of the published GLM code",
            got=min(modules),
            do=import_it,
        )
    return stored
