"""The files that hold a checkpoint's weights: which ones, whole or not, read without running code.

Tensors come back as views of the mapped file: nothing is copied until somebody reads the values.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from glmops.errors import InputError
from glmops.storage import read_json

if TYPE_CHECKING:
    from torch import Tensor

# What transformers looks for, in its order; the single file comes before the shards.
_LAYOUTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
_SHARD = re.compile(r"(?:pytorch_)?model-\d{5}-of-\d{5}(\.safetensors|\.bin)")


def weight_files(folder: Path) -> list[Path]:
    """The weight files of ``folder`` in the order of their names; empty when there are none.

    Safetensors are preferred to pickles. A sharded checkpoint must have an index, and index and
    files must name each other: a shard that only one of them knows is refused.

    Raises:
        InputError: A shard is absent, or is not in the index, or there are shards and no index.
    """
    for single, index in _LAYOUTS:
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            return _shards(folder / index)
    if strays := sorted(path.name for path in folder.iterdir() if _SHARD.fullmatch(path.name)):
        raise InputError(
            folder,
            "weights in several files, but no index that lists them",
            got=strays[0],
            do="Copy the whole checkpoint, its *.index.json included.",
        )
    return []


def indexed_tensors(folder: Path) -> dict[str, str]:
    """Tensor name → file name, as the index says; empty for a checkpoint in one file."""
    for single, index in _LAYOUTS:
        if (folder / single).is_file():
            return {}
        if (folder / index).is_file():
            return _weight_map(folder / index)
    return {}


def require_whole(file: Path) -> None:
    """A safetensors header names every byte of its file, so a cut or overwritten one shows here.

    Raises:
        InputError: The file is not a whole safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            pass
    except SafetensorError as error:
        raise InputError(
            file, f"not a whole safetensors file ({error})", do="Copy or train it again."
        ) from None


def open_tensors(file: Path) -> dict[str, Tensor]:
    """Name → tensor of one weight file, on the CPU, mapped rather than read where that is possible.

    A pickle from before torch 1.6 cannot be mapped and is read whole.

    Raises:
        InputError: The file is cut short, holds code, or holds anything but named tensors.
    """
    if file.suffix != ".safetensors":
        return _read_pickle(file)
    from safetensors import safe_open

    require_whole(file)
    with safe_open(file, framework="pt") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118


def _shards(index: Path) -> list[Path]:
    folder, listed = index.parent, sorted(set(_weight_map(index).values()))
    for name in listed:
        if not (folder / name).is_file():
            raise InputError(
                folder, f"a shard that {index.name} lists is absent", got=name, do="Copy it again."
            )
    suffix = Path(listed[0]).suffix
    for path in sorted(folder.iterdir()):
        shard = _SHARD.fullmatch(path.name)
        if shard and shard[1] == suffix and path.name not in listed:
            raise InputError(
                folder,
                f"a shard is missing from {index.name}",
                got=path.name,
                do="Copy the checkpoint again, or remove the file if it belongs to another one.",
            )
    return [folder / name for name in listed]


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names:
        raise InputError(index, "no weight_map in it", do="Copy the checkpoint again.")
    for name in names.values():
        # A path could lead out of the folder.
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError(
                index, "weight_map must name files of this folder", got=name, do="Do not use it."
            )
    return names


def _read_pickle(file: Path) -> dict[str, Tensor]:
    import pickle

    import torch

    with file.open("rb") as opened:
        mapped = opened.read(4) == b"PK\x03\x04"
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(
            file,
            "holds more than tensors, or is cut short (code in a checkpoint is never run)",
            got=_reason(error),
            do="Use a checkpoint from a source you trust, as safetensors.",
        ) from None
    except Exception as error:  # a broken pickle can raise nearly anything
        raise InputError(
            file, "not a whole weight file", got=_reason(error), do="Copy it again."
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            file, "not a table of tensors", got=type(content).__name__, do="Use another file."
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise InputError(
                file, "an entry is not a named tensor", got=name, do="Use a plain state dict."
            )
        if value.layout != torch.strided or value.is_quantized:
            raise InputError(file, "a tensor is not dense", got=name, do="Use a plain state dict.")
    return content


def _reason(error: Exception) -> str:
    """The line of torch's long advice that says what is wrong with this file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    wanted = [line for line in lines if "GLOBAL" in line or "WeightsUnpickler" in line]
    return f"{type(error).__name__}: {(wanted or lines or [''])[0]}"
