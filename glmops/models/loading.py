"""Load a checkpoint from a local folder: no network, no code of the folder's.

Native folders hold safetensors; original-format ChatGLM folders are converted as they are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import GlmopsError, InputError, MachineError, RecipeError
from glmops.models.chatglm import register
from glmops.models.original.opening import (
    Opened,
    open_original,
    optional_tokenizer,
    require_tokenizer_of_the_model,
)
from glmops.models.original.recognise import Original, recognise
from glmops.models.original.settings import native_generation
from glmops.models.original.target import MANIFEST
from glmops.models.quantization import (
    QUANTIZATIONS,
    bitsandbytes_config,
    compute_dtype,
    is_quantised,
    kept_layers,
    require_bitsandbytes,
    settle,
)
from glmops.models.tokenizers import load_tokenizer
from glmops.models.weights import require_whole, weight_files
from glmops.storage import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda")

_SUPPORTED = (
    "Supported: causal language models of transformers in safetensors, and ChatGLM-6B, "
    "ChatGLM2-6B, ChatGLM3-6B and GLM-4-9B as they were published."
)


def load(
    path: Path | str,
    *,
    quantization: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    adapter: Path | str | None = None,
) -> tuple[Any, Any]:
    """A model, ready to answer, and its tokenizer.

    The tokenizer is None for an original-format checkpoint that came without one, imported or not.

    Args:
        path: A native checkpoint folder, or an original-format ChatGLM, ChatGLM2, ChatGLM3 or
            GLM-4 one, which is converted in memory.
        quantization: "int8" or "nf4": quantise while loading, by bitsandbytes.
        dtype: "auto" keeps what the weights are stored in: the embedding's where it is mixed, and
            float32 for the official INT8 and INT4 releases, whose exact values those are. Quantised
            loading computes in bfloat16 (nf4) or float16 (int8).
        device: "auto" takes the GPU where there is one.
        adapter: An adapter folder to put on top, unmerged.
    Raises:
        InputError: The folder or a file in it is missing, cut short, of an unknown model type, or
            of another model than the rest.
        RecipeError: ``quantization``, ``dtype`` or ``device`` is not a known name.
        MachineError: There is no such device or not memory enough, or bitsandbytes is needed and
            not installed.
    """
    import torch

    _require_known("dtype", dtype, DTYPES)
    _require_known("device", device, DEVICES)
    if quantization is not None:
        _require_known("quantization", quantization, QUANTIZATIONS)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise MachineError("device", "torch sees no CUDA GPU here", do="Use the CPU: device cpu.")
    folder = Path(path)
    original, tokenizer = _checked(folder, quantization)
    opened = open_original(original) if original else None
    config = opened.config.to_dict() if opened else read_json(folder / "config.json")
    require_tokenizer_of_the_model(folder, config, tokenizer)
    model = _open_model(folder, opened, quantization, dtype, device)
    if original:
        model.generation_config = native_generation(original, tokenizer)
        model.name_or_path = model.config.name_or_path = str(folder)
    if adapter is not None:
        from glmops.models.adapters import with_adapter

        model = with_adapter(model, Path(adapter))
        model = model if is_quantised(model) else model.to(device)
    return model.eval(), tokenizer


def _require_known(argument: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise RecipeError(argument, "unknown name", got=value, do=f"Known: {', '.join(known)}.")


def _checked(
    folder: Path, quantization: str | None
) -> tuple[Original | None, PreTrainedTokenizerFast | None]:
    """Everything that can be told from the files alone, before torch builds a model."""
    if not folder.is_dir():
        raise InputError(folder, "no such folder", do="Give the folder of a trained checkpoint.")
    if not (folder / "config.json").is_file():
        raise InputError(folder, "no config.json in it", do="Give the folder of a checkpoint.")
    original = recognise(folder)
    if original is None:
        _require_native_files(folder, quantization)
    imported = (folder / MANIFEST).is_file()
    return original, (optional_tokenizer if original or imported else load_tokenizer)(folder)


def _require_native_files(folder: Path, quantization: str | None) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    register()
    config = read_json(folder / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise InputError(
            folder / "config.json",
            "unknown model_type (code that lies in the folder is never run)",
            got=kind,
            do=_SUPPORTED,
        )
    files = weight_files(folder)
    if not files or files[0].suffix != ".safetensors":
        raise InputError(
            folder,
            "no *.safetensors in it (pickled weights are not opened)",
            do="Convert the weights to safetensors.",
        )
    for file in files:
        require_whole(file)
    if stored := config.get("quantization_config"):
        if quantization is not None:
            raise InputError(folder, "is quantised already", do="Load it without quantization.")
        if isinstance(stored, dict) and stored.get("quant_method") == "bitsandbytes":
            require_bitsandbytes()


def _open_model(
    folder: Path, opened: Opened | None, quantization: str | None, dtype: str, device: str
) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {}
    if opened is not None:
        options |= {"config": opened.config, "state_dict": opened.weights}
    source = opened.model_class if opened else AutoModelForCausalLM
    with quiet_transformers():
        try:
            if quantization is not None:
                dtype = compute_dtype(quantization, dtype)
                options |= _quantised(folder, opened, quantization, dtype, device)
            model, found = source.from_pretrained(
                None if opened else str(folder),
                dtype="auto" if dtype == "auto" else getattr(torch, dtype),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                # A wrong shape then comes back in ``found`` with its name, like a missing tensor.
                ignore_mismatched_sizes=True,
                **options,
            )
            _require_complete(folder, found)
            quantised = quantization is not None or is_quantised(model)
            model = settle(model, folder) if quantised else model.to(device)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise MachineError(
                folder, "there is not memory enough", do="Use a smaller dtype or quantization."
            ) from error
        except GlmopsError:
            raise
        # A config is checked in many places of transformers, each with an exception of its own.
        except Exception as error:
            raise InputError(
                folder, f"cannot be opened ({error})", do="Copy or train it again."
            ) from error
    return model


def _quantised(
    folder: Path, opened: Opened | None, quantization: str, dtype: str, device: str
) -> dict[str, Any]:
    """The options by which transformers quantises while it loads."""
    import torch

    require_bitsandbytes()
    kept = kept_layers(_skeleton(folder, opened), quantization, device)
    config = bitsandbytes_config(quantization, getattr(torch, dtype), kept)
    return {"quantization_config": config, "device_map": {"": device}}


def _skeleton(folder: Path, opened: Opened | None) -> Any:
    """The model without values."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        if opened:
            return opened.model_class(opened.config)
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        return AutoModelForCausalLM.from_config(config)


def _require_complete(folder: Path, found: dict[str, Any]) -> None:
    """transformers only reports these and fills the gaps with random numbers."""
    for fault in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if names := sorted(str(name) for name in found[fault]):
            raise InputError(
                folder,
                f"{len(names)} tensors are {fault.removesuffix('_keys')}",
                got=names[0],
                do="config.json and the weights do not belong together; copy or train it again.",
            )


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
