"""`glmops import-model`: an original-format checkpoint → a native folder, shard by shard.

The work is done in a hidden folder beside the target, which takes the target's name when all of it
is there. A killed import goes on from its whole shards; equal inputs give equal bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops import __version__
from glmops.errors import InputError, MachineError, RecipeError
from glmops.models.original.draft import Draft, open_draft
from glmops.models.original.opening import (
    dtype_name,
    optional_tokenizer,
    require_tokenizer_of_the_model,
)
from glmops.models.original.reading import (
    Native,
    Reader,
    native_tensors,
    require_equal_copies,
    stored_tensors,
)
from glmops.models.original.recognise import Original, recognise
from glmops.models.original.settings import native_config, native_generation
from glmops.models.original.target import MANIFEST, holds, require_place
from glmops.models.original.writing import write_safetensors
from glmops.storage import sha256_file, write_json, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DTYPES = ("float32", "bfloat16", "float16")
SHARD_BYTES = 1_000_000_000
_LICENCES = ("LICENSE*", "LICENCE*", "MODEL_LICENSE*", "NOTICE*")
_SMALL_FILES_BYTES = 50_000_000

# Called with what is being done, and how many bytes of it are done, of how many.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """``already``: the target held this very import, and nothing was done.

    ``tokenizer``: whether the source had one, so that the target has it too.
    """

    kind: str
    tensors: int
    bytes: int
    tokenizer: bool
    already: bool


def import_model(
    source: Path | str,
    target: Path | str,
    *,
    dtype: str | None = None,
    on_step: Progress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Imported:
    """Write the native folder ``target`` from the original-format folder ``source``.

    It gets safetensors, config.json, generation_config.json, the tokenizer, the licence files, and
    import.json: the hashes of every file of the source and of every file written.

    Args:
        dtype: One dtype for all weights. None keeps each tensor's own; of the official INT8 and
            INT4 releases it makes float32, which holds their values exactly.
        shard_bytes: Size of one weight file; a tensor is never divided.
    Raises:
        InputError: The source is none of the supported checkpoints or is damaged, or the target
            holds something else.
        RecipeError: ``dtype`` is not a known name.
        MachineError: The disk has no room, or another import is writing the same target.
        IntegrityError: The target holds this import, but a file of it was changed.
    """
    import torch

    if dtype is not None and dtype not in DTYPES:
        raise RecipeError("dtype", "unknown name", got=dtype, do=f"Known: {', '.join(DTYPES)}.")
    say = on_step or (lambda what, done, total: None)
    folder, target = Path(source), Path(target)
    original = _original(folder)
    config = native_config(original, "float32")
    identity: dict[str, Any] = {
        "kind": original.kind,
        "quantization_bit": original.bits,
        "dtype": dtype or ("float32" if original.bits else "as stored"),
    }
    require_place(folder, target, identity)
    stored = stored_tensors(original)
    natives = native_tensors(original, stored, getattr(torch, dtype) if dtype else None)
    tokenizer = optional_tokenizer(folder)
    require_tokenizer_of_the_model(folder, config.to_dict(), tokenizer)
    reader = Reader(original, stored)
    require_equal_copies(original, reader)
    reader.close()
    identity["source"] = _source_hashes(folder, say)
    size = sum(native.bytes for native in natives)
    done = Imported(original.kind, len(natives), size, tokenizer is not None, already=False)
    if holds(target, identity):
        return replace(done, already=True)
    plan = {**identity, "glmops": __version__, "shard_bytes": shard_bytes}
    with open_draft(target, plan) as draft:
        _write_weights(draft, natives, reader, shard_bytes, say)
        say("finishing", size, size)
        _write_rest(draft.folder, original, natives[0], tokenizer)
        output = {path.name: _entry(draft, path) for path in _files(draft.folder)}
        manifest = {**identity, "glmops": __version__, "output": output}
        write_json(draft.folder / MANIFEST, manifest)
        draft.publish()
    return done


def _original(folder: Path) -> Original:
    if not folder.is_dir():
        raise InputError(folder, "no such folder", do="Give the folder of a downloaded checkpoint.")
    original = recognise(folder)
    if original is None:
        raise InputError(
            folder,
            "not an original-format GLM checkpoint (its config.json does not say 'chatglm')",
            do="A native checkpoint needs no import: give its folder where a model is asked for.",
        )
    return original


def _source_hashes(folder: Path, say: Progress) -> dict[str, Any]:
    """sha256 and size of every file of the source; hidden files and subfolders do not count."""
    files = _files(folder)
    total, done = sum(path.stat().st_size for path in files), 0
    hashes = {}
    for path in files:
        say("hashing the source", done, total)
        hashes[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        done += path.stat().st_size
    say("hashing the source", total, total)
    return hashes


def _write_weights(
    draft: Draft, natives: Sequence[Native], reader: Reader, shard_bytes: int, say: Progress
) -> None:
    shards = _shards(natives, shard_bytes)
    total = sum(native.bytes for native in natives)
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        say("writing the weights", min(done, total), total)

    _require_room(draft, shards)
    for name, members in shards.items():
        if name in draft.finished:
            on_bytes(sum(native.bytes for native in members))
            continue
        digest = write_safetensors(draft.folder / name, members, reader.chunks, on_bytes)
        draft.finish(name, digest)
        reader.close()
    if len(shards) > 1:
        _write_index(draft.folder, shards, total)


def _shards(natives: Sequence[Native], shard_bytes: int) -> dict[str, list[Native]]:
    """File name → its tensors, as transformers names them; a tensor is never divided."""
    groups: list[list[Native]] = [[]]
    room = shard_bytes
    for native in natives:
        if groups[-1] and native.bytes > room:
            groups.append([])
            room = shard_bytes
        groups[-1].append(native)
        room -= native.bytes
    if len(groups) == 1:
        return {"model.safetensors": groups[0]}
    count = len(groups)
    names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    return dict(zip(names, groups, strict=True))


def _require_room(draft: Draft, shards: dict[str, list[Native]]) -> None:
    missing = [
        native for name, each in shards.items() for native in each if name not in draft.finished
    ]
    needed = sum(native.bytes for native in missing) + _SMALL_FILES_BYTES
    free = shutil.disk_usage(draft.folder).free
    if free < needed:
        raise MachineError(
            draft.target.parent,
            f"{needed / 1e9:.2f} GB are needed",
            got=f"{free / 1e9:.2f} GB free",
            do="Make room, or give a target on another disk.",
        )


def _write_index(folder: Path, shards: dict[str, list[Native]], total: int) -> None:
    places = {native.name: name for name, members in shards.items() for native in members}
    count = sum(
        native.bytes // native.dtype.itemsize for each in shards.values() for native in each
    )
    metadata = {"total_parameters": count, "total_size": total}
    index = {"metadata": metadata, "weight_map": places}
    write_json(folder / "model.safetensors.index.json", index)


def _write_rest(
    folder: Path, original: Original, first: Native, tokenizer: PreTrainedTokenizerFast | None
) -> None:
    config = native_config(original, dtype_name(first.dtype))
    write_text(folder / "config.json", config.to_json_string())
    native_generation(original, tokenizer).save_pretrained(str(folder))
    if tokenizer is not None:
        tokenizer.save_pretrained(str(folder))
    for pattern in _LICENCES:
        for licence in sorted(original.folder.glob(pattern)):
            shutil.copyfile(licence, folder / licence.name)


def _files(folder: Path) -> list[Path]:
    paths = sorted(folder.iterdir())
    return [path for path in paths if path.is_file() and not path.name.startswith(".")]


def _entry(draft: Draft, path: Path) -> dict[str, Any]:
    digest = draft.finished.get(path.name) or sha256_file(path)
    return {"bytes": path.stat().st_size, "sha256": digest}
