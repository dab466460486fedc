"""How the lines of a file end: what an editor or a script may have changed without a word."""

from __future__ import annotations

from typing import NamedTuple

from glmops.prepare.raw.files import RawFile
from glmops.prepare.raw.opening import BOM, opened

_CHUNK = 1 << 20


class Endings(NamedTuple):
    """Lines of a text file, how many of them end with CRLF, and what stands at its two ends."""

    lines: int
    crlf: int
    mark: bool
    """A byte-order mark at the start, which is no part of the text."""
    final: bool
    """The last line has a line end."""


def endings_of(file: RawFile) -> Endings:
    """A look at all bytes of a file, unpacked, a megabyte at a time.

    Raises:
        InputError: It cannot be opened or unpacked.
    """
    feeds, crlf, last = 0, 0, b""
    with opened(file) as stream:
        chunk = stream.read(_CHUNK)
        mark = chunk.startswith(BOM)
        while chunk:
            feeds += chunk.count(b"\n")
            crlf += chunk.count(b"\r\n") + (last == b"\r" and chunk.startswith(b"\n"))
            last = chunk[-1:]
            chunk = stream.read(_CHUNK)
    final = last == b"\n"
    return Endings(feeds + (not final), crlf, mark, final)
