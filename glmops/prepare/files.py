"""Which files hold the raw rows, what a file looks like before it is read, and its lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glmops.errors import InputError
from glmops.storage import project_root, sha256_file, sha256_json

SUFFIXES = (".jsonl", ".json")
BOM = b"\xef\xbb\xbf"
_HEAD = 1 << 16
"""Bytes that are enough to tell what a file is."""

_MAGIC = {
    b"\x1f\x8b": ("a gzip file", "Decompress it first (`gunzip`)."),
    b"PK\x03\x04": ("a zip archive", "Unpack it first."),
    b"BZh": ("a bzip2 file", "Decompress it first."),
    b"\xfd7zXZ": ("an xz file", "Decompress it first."),
    b"(\xb5/\xfd": ("a zstandard file", "Decompress it first."),
    b"PAR1": ("a Parquet file", "Write its rows as text in the format you named."),
    b"SQLite format 3": ("an SQLite database", "Write its rows as text in the format you named."),
    b"\xff\xfe": ("UTF-16 text", "Save it as UTF-8."),
    b"\xfe\xff": ("UTF-16 text", "Save it as UTF-8."),
    b"version https://git-lfs": (
        "a Git LFS pointer in place of the data",
        "Fetch the data itself with `git lfs pull`.",
    ),
}


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file of raw rows. ``shown`` is its name in records and messages."""

    path: Path
    shown: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line, without its line end. ``number`` counts from 1."""

    number: int
    raw: bytes
    last: bool


def raw_files(path: Path, root: Path | None = None) -> list[RawFile]:
    """The file ``path``, or every .jsonl and .json file below the folder ``path``, in sorted order.

    Links are followed, hidden files and folders are not looked at. The only file of a folder is
    taken whatever its name: `--raw` makes a folder around a link to the user's file.

    Args:
        root: Names below it are shown relative to it; the project around here when None.
    Raises:
        InputError: Nothing is there, a link leads nowhere or in a circle, or a folder has no rows.
    """
    path = Path(path)
    root = root or _project_here()
    if not path.exists():
        what = "a link to nothing" if path.is_symlink() else "no such file or folder"
        raise InputError(path, what, do="Correct the path.")
    if not path.is_dir():
        return [RawFile(path, shown(path, root))]
    found = sorted(_below(path, ()), key=lambda file: file.relative_to(path).as_posix())
    files = [file for file in found if file.suffix.lower() in SUFFIXES]
    if len(found) == 1:
        files = found
    if not files:
        raise InputError(
            shown(path, root),
            f"no {' or '.join(SUFFIXES)} file in this folder",
            got=", ".join(file.name for file in found) or "an empty folder",
            do="Name a file, or a folder that holds such files.",
        )
    return [RawFile(file, shown(file, root)) for file in files]


def require_text(file: RawFile) -> bytes:
    """The first bytes of a file that holds text (without a byte-order mark).

    Raises:
        InputError: It is empty, compressed, binary, a Git LFS pointer or cannot be opened.
    """
    head = _head(file)
    for magic, (what, do) in _MAGIC.items():
        if head.startswith(magic):
            raise InputError(file.shown, f"this is {what}", do=do)
    head = head.removeprefix(BOM)
    if not head.strip():
        raise InputError(file.shown, "the file is empty", do="Give it rows, or leave it out.")
    # Real text has hardly any of these; a stray one is refused with its own row.
    odd = sum(byte < 32 and byte not in b"\t\n\r" for byte in head)
    if odd > len(head) / 10:
        raise InputError(file.shown, "this is a binary file, not text", do="Name a text file.")
    return head


def require_json_lines(file: RawFile) -> None:
    """Refuse a file that is plainly not one JSON value per line, saying what it looks like."""
    head = require_text(file)
    lines = [line for line in head.decode("utf-8", "replace").split("\n") if line.strip()]
    first = lines[0].strip()
    objects = [line for line in lines[:20] if line.lstrip().startswith("{")]
    if first.startswith("[") and (len(lines) == 1 or not _is_list_of_values(first)):
        what, do = "a JSON array", "Write each of its objects on a line of its own."
    elif first == "{" and not any(_is_json(line) for line in objects):
        what, do = "one JSON document over several lines", "Write each row on one line."
    elif objects or _is_json(first):
        return
    elif "_!_" in first:
        what, do = "lines separated by '_!_'", "Name its own format."
    elif "," in first or "\t" in first:
        kind = "a CSV header without rows" if len(lines) == 1 else "a CSV table"
        what, do = f"{kind} (first line {first[:60]!r})", "Name its own format."
    else:
        what, do = f"plain text (first line {first[:60]!r})", "Check the path and the format."
    fault = f"expected one JSON object per line; this looks like {what}"
    raise InputError(file.shown, fault, do=do)


def lines_of(file: RawFile) -> Iterator[Line]:
    """Every line of a file; only a line feed ends one, so U+2028 stays inside its row."""
    with file.path.open("rb") as stream:
        waiting: Line | None = None
        for number, raw in enumerate(stream, start=1):
            if waiting is not None:
                yield waiting
            raw = raw.removesuffix(b"\n").removesuffix(b"\r")
            waiting = Line(number, raw.removeprefix(BOM) if number == 1 else raw, last=False)
        if waiting is not None:
            yield Line(waiting.number, waiting.raw, last=True)


def hash_of(path: Path, files: list[RawFile]) -> str:
    """One hash over the raw files' bytes and their names below ``path`` (a file's own is ".")."""
    names = [file.path.relative_to(path).as_posix() for file in files]
    return sha256_json(dict(zip(names, (sha256_file(file.path) for file in files), strict=True)))


def _head(file: RawFile) -> bytes:
    if not file.path.is_file():
        what = "a link to nothing" if file.path.is_symlink() else "not a regular file"
        raise InputError(file.shown, what, do="Name a file or a folder of files.")
    try:
        with file.path.open("rb") as stream:
            return stream.read(_HEAD)
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise InputError(file.shown, what, do="Check the file's permissions.") from None


def _below(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        raise InputError(folder, "this link leads back to a folder above it", do="Remove the link.")
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _below(entry, (*above, real))
        else:
            yield entry


def _project_here() -> Path | None:
    try:
        return project_root()
    except InputError:
        return None


def shown(path: Path, root: Path | None) -> str:
    """A path's name in messages and records: relative to the project when below it.

    Links are not resolved: the name that the project uses is the one that people know.
    """
    absolute = Path(os.path.abspath(path))
    if root is not None and absolute.is_relative_to(root):
        return absolute.relative_to(root).as_posix()
    return path.as_posix()


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_list_of_values(text: str) -> bool:
    """Whether a line is a whole JSON list of its own that holds no objects."""
    return _is_json(text) and not any(isinstance(item, dict) for item in json.loads(text))
