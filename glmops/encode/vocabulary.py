"""The tokenizer of a recipe: made from the train rows, or that of a base checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from glmops.encode.chunks import read_chunks
from glmops.errors import InputError
from glmops.models.tokenizers import load_tokenizer, train_tokenizer
from glmops.recipe import TokenizerSource
from glmops.storage import sha256_file, sha256_json

NATIVE = "tokenizer.json"
FILES = (
    NATIVE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "ice_text.model",
    "vocab.json",
    "merges.txt",
)
"""The files of a checkpoint that decide its ids, in the native and in the original layouts."""


def save_tokenizer(
    source: TokenizerSource, train: Path, root: Path, folder: Path, control: Iterable[str] = ()
) -> None:
    """Write the recipe's tokenizer to ``folder``; a relative path is one below ``root``.

    A native one is copied file by file, so that it keeps its hash.

    Args:
        control: Control tokens that one that is made here must have.
    Raises:
        InputError: The folder of a stored tokenizer cannot be used, or its files are not those
            that the recipe names by their hash.
    """
    if source.path is None:
        assert source.train is not None
        texts, size = _texts(train), source.vocab_size or 0
        made = train_tokenizer(texts, size, control, pieces=source.train)
        made.save_pretrained(str(folder))
        return
    stored = root / source.path
    if not (stored / NATIVE).is_file():
        tokenizer = load_tokenizer(stored)  # which says what is wrong with the folder, if anything
        require_hash(stored, source.sha256 or "")
        tokenizer.save_pretrained(str(folder))
        return
    require_hash(stored, source.sha256 or "")
    folder.mkdir()
    for file in _files(stored):
        shutil.copyfile(file, folder / file.name)


def require_hash(folder: Path, expected: str) -> None:
    """Refuse a tokenizer whose files have changed since the recipe was written."""
    if (found := tokenizer_hash(folder)) != expected:
        raise InputError(
            f"encode.tokenizer {folder}",
            "its tokenizer files are not those that the recipe names by their hash",
            got=found,
            do="Put this hash into encode.tokenizer.sha256 if these are the files you mean.",
        )


def tokenizer_hash(folder: Path) -> str:
    """One hash for the tokenizer files of a checkpoint, whatever weights lie beside them."""
    return sha256_json({file.name: sha256_file(file) for file in _files(folder)})


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in FILES if (folder / name).is_file()]


def _texts(train: Path) -> Iterator[str]:
    """Prompts and answers apart, as they are encoded: no token then reaches from one to the other,
    which would never be used, and an answer is cut into no more tokens than it has to be.
    """
    for chunk in read_chunks(train):
        columns = (chunk.column(name).to_pylist() for name in ("head", "body", "cue"))
        yield from map("".join, zip(*columns, strict=True))
        yield from chunk.column("target").to_pylist()
