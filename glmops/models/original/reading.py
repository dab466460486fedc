"""The tensors of an original checkpoint as those of the native model, read only when asked for.

Everything is checked before the first value is read: names, shapes and dtypes of all files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError
from glmops.models.original.names import IGNORED, Mapped, mapped_tensors
from glmops.models.original.quantized import dequantise
from glmops.models.original.recognise import Original
from glmops.models.weights import indexed_tensors, open_tensors, weight_files

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_CHUNK_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file."""

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Native:
    """A tensor of the native model: ``shape[0]`` rows of ``source`` from row ``start`` on.

    ``scale`` names the row scales of a quantised source, else it is empty.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    source: str
    start: int
    scale: str

    @property
    def bytes(self) -> int:
        count = self.dtype.itemsize
        for side in self.shape:
            count *= side
        return count


def native_tensors(
    original: Original, stored: dict[str, Stored], dtype: torch.dtype | None
) -> list[Native]:
    """What the native model will hold, in the order of its computation.

    Args:
        dtype: One for all; None keeps each as it is stored, and makes float32 of quantised models.
    """
    import torch

    if dtype is None and original.bits:
        dtype = torch.float32
    natives = []
    for mapped in mapped_tensors(original):
        start = 0
        quantised = bool(mapped.linear and original.bits)
        scale = f"{mapped.source}_scale" if quantised else ""
        for name, rows in mapped.parts:
            kept = dtype or stored[mapped.source].dtype
            shape = (rows, *mapped.shape[1:])
            natives.append(Native(name, shape, kept, mapped.source, start, scale))
            start += rows
    return natives


def stored_tensors(original: Original) -> dict[str, Stored]:
    """Name → place of every tensor that counts, checked against what config.json asks for.

    Raises:
        InputError: A file is absent, broken or holds code; a tensor is missing, unknown, twice
            there, or of a wrong shape or dtype. The message names it.
    """
    files = weight_files(original.folder)
    if not files:
        raise InputError(
            original.folder,
            "no weights in it (*.safetensors or pytorch_model*.bin)",
            do="Copy the whole checkpoint.",
        )
    stored: dict[str, Stored] = {}
    for file in files:
        for name, tensor in open_tensors(file).items():
            if name in stored and not IGNORED.fullmatch(name):
                raise InputError(
                    file, f"a tensor is in {stored[name].file.name} too", got=name, do="Copy again."
                )
            stored[name] = Stored(file, tuple(tensor.shape), tensor.dtype)
    for name, listed in indexed_tensors(original.folder).items():
        if name not in stored or stored[name].file.name != listed:
            raise InputError(
                original.folder / listed,
                "a tensor that the index lists is not in it",
                got=name,
                do="Copy the checkpoint again.",
            )
    stored = {name: each for name, each in stored.items() if not IGNORED.fullmatch(name)}
    _require_expected(original, stored)
    return stored


class Reader:
    """Reads rows of native tensors. Files open when first needed, and stay open until ``close``."""

    def __init__(self, original: Original, stored: dict[str, Stored]) -> None:
        self._bits, self._stored = original.bits, stored
        self._open: dict[Path, dict[str, Tensor]] = {}

    def holds(self, name: str) -> bool:
        return name in self._stored

    def source(self, name: str) -> Tensor:
        file = self._stored[name].file
        if file not in self._open:
            self._open[file] = open_tensors(file)
        return self._open[file][name]

    def rows(self, native: Native, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop`` of ``native`` in its dtype, as a tensor of their own."""
        rows = slice(native.start + start, native.start + stop)
        tensor = self.source(native.source)[rows]
        if native.scale:
            return dequantise(tensor, self.source(native.scale)[rows], self._bits, native.dtype)
        return tensor.to(native.dtype, copy=True).contiguous()

    def chunks(self, native: Native) -> Iterator[Tensor]:
        """All rows of ``native``, a few at a time."""
        step = rows_at_once(native.bytes, native.shape[0])
        for start in range(0, native.shape[0], step):
            yield self.rows(native, start, min(start + step, native.shape[0]))

    def close(self) -> None:
        """Let go of the mapped files: their pages count as this process's memory until then."""
        self._open.clear()


class LazyTensor:
    """What transformers reads a checkpoint's tensor through: ``lazy[...]`` gives the values."""

    def __init__(self, reader: Reader, native: Native) -> None:
        self._reader, self._native = reader, native

    def __getitem__(self, _: Any) -> Tensor:
        return self._reader.rows(self._native, 0, self._native.shape[0])


def require_equal_copies(original: Original, reader: Reader) -> None:
    """ChatGLM-6B's head is its embedding, and its files hold both.

    Raises:
        InputError: They differ, so that the model cannot have been what it says.
    """
    import torch

    for mapped in mapped_tensors(original):
        if not mapped.copy_of or not reader.holds(mapped.source):
            continue
        ours, other = reader.source(mapped.source), reader.source(mapped.copy_of)
        step = rows_at_once(ours.nbytes, ours.shape[0])
        for start in range(0, ours.shape[0], step):
            if not torch.equal(ours[start : start + step], other[start : start + step]):
                raise InputError(
                    original.folder,
                    f"{mapped.source} must equal {mapped.copy_of}: the model has one for both",
                    do="Use the checkpoint as it was published or trained.",
                )


def rows_at_once(size: int, rows: int) -> int:
    return max(1, rows * _CHUNK_BYTES // max(size, 1))


def _require_expected(original: Original, stored: dict[str, Stored]) -> None:
    import torch

    expected = {each.source: each for each in mapped_tensors(original)}
    scales = {f"{name}_scale": each for name, each in expected.items() if each.linear}
    if not original.bits:
        scales = {}
    optional = {name for name, each in expected.items() if each.copy_of}
    _refuse_names(original, "unknown", stored.keys() - expected.keys() - scales.keys())
    _refuse_names(original, "missing", (expected.keys() | scales.keys()) - stored.keys() - optional)
    for name in stored.keys() & expected.keys():
        mapped, found = expected[name], stored[name]
        quantised = bool(mapped.linear and original.bits)
        if quantised != (found.dtype == torch.int8) or not _number(found.dtype):
            raise InputError(
                found.file,
                f"{name} is {found.dtype}, which does not go with quantization_bit "
                f"{original.bits} in config.json",
                do="config.json and the weights do not belong together; copy them again.",
            )
        _require_shape(found, name, _stored_shape(mapped, original.bits if quantised else 0))
    for name, mapped in scales.items():
        _require_shape(stored[name], name, mapped.shape[:1])


def _number(dtype: torch.dtype) -> bool:
    import torch

    return dtype.is_floating_point or dtype == torch.int8


def _stored_shape(mapped: Mapped, bits: int) -> tuple[int, ...]:
    return (mapped.shape[0], mapped.shape[1] // 2) if bits == 4 else mapped.shape


def _require_shape(found: Stored, name: str, shape: tuple[int, ...]) -> None:
    if found.shape != shape:
        raise InputError(
            found.file,
            f"{name} must have the shape {shape}",
            got=found.shape,
            do="config.json and the weights do not belong together; copy them again.",
        )


def _refuse_names(original: Original, fault: str, names: set[str]) -> None:
    if not names:
        return
    if fault == "unknown" and all(name.startswith("transformer.prefix_encoder.") for name in names):
        what = "the weights hold a P-tuning prefix"
        do = "Take it with `glmops import-adapter SRC DST --base DIR`, from its own folder."
    else:
        what = f"{len(names)} tensors are {fault}"
        do = "config.json and the weights do not belong together; copy them again."
    raise InputError(original.folder, what, got=sorted(names)[0], do=do)
