"""A raw file's bytes: what it looks like before it is read, unpacked, in blocks of whole lines."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import IO

from glmops.errors import InputError
from glmops.prepare.raw.files import RawFile

BOM = b"\xef\xbb\xbf"
GZIP, ZSTANDARD = b"\x1f\x8b", b"(\xb5/\xfd"
PARQUET = b"PAR1"
BLOCK = 1 << 23
"""Bytes of raw text that become columns at a time, while the block before them is looked at."""
LONGEST_LINE = 1 << 22
"""Bytes of a line. What is longer is a file without its line breaks; it is never held whole."""
KEPT = 1 << 12
"""Bytes of an overlong line that its refusal keeps."""
_HEAD = 1 << 16
# Bytes that no text holds: every control character but tab, line feed and carriage return.
_CONTROLS = bytes(byte for byte in (*range(32), 127) if byte not in b"\t\n\r")
# U+0080 to U+009F in UTF-8, and how they begin in GB18030.
_HIGH_CONTROL = re.compile(rb"\xc2[\x80-\x9f]")
_HIGH_CONTROL_GB18030 = b"\x810\x81"

_MAGIC = {
    b"PK\x03\x04": ("a zip archive", "Unpack it first."),
    b"BZh": ("a bzip2 file", "Decompress it first (`bunzip2`), or pack it as .gz or .zst."),
    b"\xfd7zXZ": ("an xz file", "Decompress it first (`unxz`), or pack it as .gz or .zst."),
    GZIP: ("a gzip file inside a packed file", "Decompress it once."),
    ZSTANDARD: ("a zstandard file inside a packed file", "Decompress it once."),
    PARQUET: ("a Parquet file", "Read it with the format table and a column for each field."),
    b"SQLite format 3": ("an SQLite database", "Write its rows as text in the format you named."),
    b"\xff\xfe": ("UTF-16 text", "Save it as UTF-8."),
    b"\xfe\xff": ("UTF-16 text", "Save it as UTF-8."),
    b"version https://git-lfs": (
        "a Git LFS pointer in place of the data",
        "Fetch the data itself with `git lfs pull`.",
    ),
}


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines. ``first`` is the first one's number, from 1; ``offset`` its place in bytes."""

    first: int
    offset: int
    data: bytes
    last: bool

    @property
    def may_hold_controls(self) -> bool:
        """False: no line of it holds a control character, so none needs a look of its own."""
        if len(self.data.translate(None, _CONTROLS)) < len(self.data):
            return True
        # The byte alone is found much faster than the pair, and most texts do not have it.
        high = b"\xc2" in self.data and _HIGH_CONTROL.search(self.data) is not None
        return high or _HIGH_CONTROL_GB18030 in self.data


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line too long to be held, of which only the start is kept. ``size`` is in bytes."""

    number: int
    size: int
    start: bytes


def head_of(file: RawFile) -> bytes:
    """The first bytes of a file, unpacked, without a byte-order mark.

    Raises:
        InputError: It cannot be opened or unpacked.
    """
    with opened(file) as stream:
        return stream.read(_HEAD).removeprefix(BOM)


def require_text(file: RawFile) -> bytes:
    """The head of a file that holds text.

    Raises:
        InputError: It is empty, binary, packed in another way, or a Git LFS pointer.
    """
    head = head_of(file)
    for magic, (what, do) in _MAGIC.items():
        if head.startswith(magic):
            raise InputError(file.shown, f"this is {what}", do=do)
    if not head.strip():
        raise InputError(file.shown, "the file is empty", do="Give it rows, or leave it out.")
    # Real text has hardly any of these; a stray one is refused with its own row.
    odd = len(head) - len(head.translate(None, _CONTROLS))
    if odd > len(head) / 10:
        raise InputError(file.shown, "this is a binary file, not text", do="Name a text file.")
    if b"\n" not in head and head.rstrip(b"\r").count(b"\r") > 1:
        what = "its lines end with carriage returns alone (old Macintosh)"
        raise InputError(file.shown, what, do="Save it with line feeds (LF) or CRLF.")
    return head


@contextmanager
def opened(file: RawFile) -> Iterator[IO[bytes]]:
    """The file's bytes from the start, unpacked if they are gzip or zstandard.

    Raises:
        InputError: It is no regular file, may not be read, or its packed data is broken.
    """
    if not file.path.is_file():
        what = "a link to nothing" if file.path.is_symlink() else "not a regular file"
        raise InputError(file.shown, what, do="Name a file or a folder of files.")
    try:
        with file.path.open("rb") as plain:
            magic = plain.read(4)
            plain.seek(0)
            if magic.startswith(GZIP):
                with gzip.GzipFile(fileobj=plain) as unpacked:
                    yield BufferedReader(unpacked)
            elif magic == ZSTANDARD:
                import pyarrow as pa

                with pa.CompressedInputStream(pa.PythonFile(plain, "r"), "zstd") as unpacked:
                    yield unpacked
            else:
                yield plain
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _unusable(file, "the gzip data is broken or cut short", error) from None
    except OSError as error:
        if error.strerror is None:  # pyarrow's own, about the data
            raise _unusable(file, "the zstandard data is broken or cut short", error) from None
        what = f"cannot be read ({error.strerror})"
        raise InputError(file.shown, what, do="Check the file and its permissions.") from None


def _unusable(file: RawFile, what: str, error: Exception) -> InputError:
    return InputError(file.shown, f"{what} ({error})", do="Fetch or pack the file again.")


def blocks(file: RawFile) -> Iterator[Block | LongLine]:
    """All lines of a file in order, in blocks of about BLOCK bytes; only a line feed ends a line.

    A byte-order mark at the start is left out. A line that fills a block is passed over without
    being held. At most two blocks are in memory.
    """
    with opened(file) as stream:
        number, offset, rest = 1, 0, b""
        chunk = stream.read(BLOCK)
        if chunk.startswith(BOM):
            chunk, offset = chunk[len(BOM) :], len(BOM)
        while chunk:
            following = stream.read(BLOCK)
            data, last = rest + chunk, not following
            end = len(data) if last else data.rfind(b"\n") + 1
            if end:
                yield Block(number, offset, data[:end], last)
                number, offset = number + data.count(b"\n", 0, end), offset + end
            rest, chunk = data[end:], following
            if len(rest) > LONGEST_LINE:
                size, start = len(rest), rest[:KEPT]
                while chunk and b"\n" not in chunk:
                    size, chunk = size + len(chunk), stream.read(BLOCK)
                end = chunk.find(b"\n") + 1
                yield LongLine(number, size + end, start)
                number, offset = number + 1, offset + size + end
                rest, chunk = b"", chunk[end:] or stream.read(BLOCK)
