"""One safetensors file from tensors that come a few rows at a time, and its hash on the way.

``safetensors.torch.save_file`` needs all tensors of a file in memory at once. The format is simple:
eight bytes with the header's length, the header as JSON, then the values in the header's order.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import MachineError
from glmops.models.original.reading import Native

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def write_safetensors(
    file: Path,
    natives: Sequence[Native],
    chunks: Callable[[Native], Iterable[Tensor]],
    on_bytes: Callable[[int], None],
) -> str:
    """Write ``natives`` to ``file``, which appears only when it is whole; returns its sha256.

    Args:
        chunks: The rows of a tensor in order, in the dtype and width that it says of itself.
        on_bytes: Called with the number of bytes of each chunk that was written.
    """
    # Wide values first, as the library does it: every tensor then starts at a multiple of its
    # width, which readers that map the file count on.
    ordered = sorted(natives, key=lambda native: -native.dtype.itemsize)
    digest = hashlib.sha256()
    draft = file.with_name(f".{file.name}.part")
    with draft.open("wb") as out:
        for block in _blocks(ordered, chunks):
            try:
                out.write(block)
            except OSError as error:
                raise MachineError(file, f"cannot be written ({error})", do="Make room.") from error
            digest.update(block)
            on_bytes(len(block))
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
    return digest.hexdigest()


def _blocks(
    natives: Sequence[Native], chunks: Callable[[Native], Iterable[Tensor]]
) -> Iterable[Any]:
    import torch

    yield _header(natives)
    for native in natives:
        for rows in chunks(native):
            yield rows.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _header(natives: Sequence[Native]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for native in natives:
        entries[native.name] = {
            "dtype": _DTYPES[str(native.dtype).removeprefix("torch.")],
            "shape": list(native.shape),
            "data_offsets": [offset, offset + native.bytes],
        }
        offset += native.bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
