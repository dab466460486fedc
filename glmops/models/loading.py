"""Load a checkpoint from a local folder: safetensors only, no network, no code of the folder's."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError, RecipeError
from glmops.models.tokenizers import load_tokenizer
from glmops.storage import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerFast

DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda")


def load(
    path: Path | str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    adapter: Path | str | None = None,
) -> tuple[Any, PreTrainedTokenizerFast]:
    """A model, ready to answer, and its tokenizer.

    Args:
        path: A folder that ``save_pretrained`` wrote.
        dtype: "auto" keeps what the weights are stored in.
        device: "auto" takes the GPU where there is one.
        adapter: A peft adapter folder to put on top, unmerged.
    Raises:
        InputError: The folder or a file in it is missing, cut short, or of an unknown model type.
        RecipeError: ``dtype`` or ``device`` is not a known name.
    """
    import torch

    _require_known("dtype", dtype, DTYPES)
    _require_known("device", device, DEVICES)
    folder = Path(path)
    tokenizer = _checked(folder)
    model = _open_model(folder, dtype)
    if adapter is not None:
        model = _with_adapter(model, Path(adapter))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval(), tokenizer


def _require_known(argument: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise RecipeError(argument, "unknown name", got=value, do=f"Known: {', '.join(known)}.")


def _checked(folder: Path) -> PreTrainedTokenizerFast:
    """Everything that can be told from the files alone, before torch builds a model."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if not folder.is_dir():
        raise InputError(folder, "no such folder", do="Give the folder of a trained checkpoint.")
    if not (folder / "config.json").is_file():
        raise InputError(folder, "no config.json in it", do="Give the folder of a checkpoint.")
    config = read_json(folder / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in CONFIG_MAPPING:
        raise InputError(
            folder / "config.json",
            "unknown model_type (code that lies in the folder is never run)",
            got=kind,
            do="Use a checkpoint in the native transformers format.",
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(
            folder,
            "no *.safetensors in it (pickled weights are not opened)",
            do="Convert the weights to safetensors.",
        )
    for file in weights:
        _require_whole(file)
    return load_tokenizer(folder)


def _require_whole(file: Path) -> None:
    """The header names every byte of the file, so a cut or overwritten file shows here."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            pass
    except SafetensorError as error:
        raise InputError(
            file, f"not a whole safetensors file ({error})", do="Copy or train it again."
        ) from None


def _open_model(folder: Path, dtype: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with quiet_transformers():
        try:
            model, found = AutoModelForCausalLM.from_pretrained(
                str(folder),
                dtype="auto" if dtype == "auto" else getattr(torch, dtype),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                # A wrong shape then comes back in ``found`` with its name, like a missing tensor.
                ignore_mismatched_sizes=True,
            )
        except (OSError, ValueError) as error:
            raise InputError(
                folder, f"cannot be opened ({error})", do="Copy or train it again."
            ) from error
    # transformers only reports these and fills the gaps with random numbers.
    for fault in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if names := sorted(str(name) for name in found[fault]):
            raise InputError(
                folder,
                f"{len(names)} tensors are {fault.removesuffix('_keys')}",
                got=names[0],
                do="config.json and the weights do not belong together; copy or train it again.",
            )
    return model


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without its progress bars and its report on missing tensors, of which we make an error."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _with_adapter(model: Any, folder: Path) -> Any:
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise InputError(folder, f"no {name} in it", do="Give the folder of a peft adapter.")
    weights = folder / "adapter_model.safetensors"
    _require_whole(weights)
    with warnings.catch_warnings():
        # peft warns about gaps and goes on with random numbers; the check below is an error.
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        # peft 0.21 still asks transformers 5.23 by the old name of activation checkpointing.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        try:
            adapted = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                folder, f"does not fit this base ({error})", do="Give the base it was trained on."
            ) from error
    with safe_open(weights, framework="pt") as file:
        stored = set(file.keys())
    if wrong := sorted(stored ^ set(get_peft_model_state_dict(adapted))):
        raise InputError(
            weights,
            f"{len(wrong)} tensors are missing or of another model",
            got=wrong[0],
            do="Give the base it was trained on, or copy the adapter again.",
        )
    return adapted
