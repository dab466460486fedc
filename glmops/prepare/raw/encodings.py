"""Which encoding a file is in. UTF-8, or GB18030 when the whole file is that: found, never guessed.

A file of one encoding with a few broken lines keeps its encoding, and each such line is refused by
its own number. A file of which no encoding holds the most lines is refused as a whole.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from glmops.errors import InputError
from glmops.prepare.raw.files import RawFile
from glmops.prepare.raw.opening import BOM, LongLine, blocks, opened

Name = Literal["utf-8", "gb18030"]
_CHUNK = 1 << 20
# Three bytes of UTF-8 for a character from U+3000 on. Two bytes of GB18030 rarely look like it.
_WIDE = re.compile(rb"[\xe3-\xef][\x80-\xbf][\x80-\xbf]")
# Of UTF-8 lines among GB18030 ones: so few may be chance, since short ones can be read as both.
_CHANCE = 0.2


@dataclass(frozen=True, slots=True)
class Encoding:
    """``clean``: every byte of the file is text in it, so no line needs a look of its own."""

    name: Name
    clean: bool


@dataclass(slots=True)
class _Census:
    """Lines with bytes above 127, by what they can be read as."""

    utf8: int = 0
    other: int = 0
    """Lines that are not UTF-8."""
    wide: int = 0
    """UTF-8 lines with two or more characters that GB18030 lines hardly ever imitate."""
    high: int = 0
    characters: int = 0
    """Bytes above 127, and characters that GB18030 reads from them, in lines that are not UTF-8."""
    first_other: tuple[int, int] = (0, 0)
    broken: list[tuple[int, int]] = field(default_factory=list)
    """(line, byte offset) of the first place that is neither, at most one."""

    @property
    def is_gb18030(self) -> bool:
        """Hardly a line is UTF-8, and most characters are made of two high bytes, as in Chinese."""
        chinese = self.high >= 1.5 * self.characters
        return not self.broken and chinese and self.utf8 <= _CHANCE * self.other


def encoding_of(file: RawFile, wanted: Literal["auto", "utf-8", "gb18030"] = "auto") -> Encoding:
    """The encoding that a file of text is in, after a look at all of it.

    Args:
        wanted: An encoding to hold the file to, instead of finding it.
    Raises:
        InputError: It is neither UTF-8 nor GB18030; the first place that is neither is named.
    """
    if wanted == "gb18030":
        return Encoding(wanted, _decodes(file, wanted) and _census(file).wide == 0)
    if _decodes(file, "utf-8"):
        return Encoding("utf-8", clean=True)
    if wanted == "utf-8":
        return Encoding(wanted, clean=False)
    census = _census(file)
    if census.is_gb18030:
        return Encoding("gb18030", clean=census.wide == 0)
    if census.utf8 >= census.other:
        return Encoding("utf-8", clean=False)
    line, offset = (census.broken or [census.first_other])[0]
    what = "the file is neither UTF-8 nor GB18030 throughout; the first byte that is neither"
    if not census.broken:
        what = f"the file mixes encodings: {census.utf8} lines are UTF-8 and {census.other} are "
        what += "not; the first byte that is not"
    raise InputError(
        f"{file.shown}:{line}",
        f"{what} is byte {offset} of the file, counted from 0",
        do="Convert the file to UTF-8, or name its `encoding` to have only such lines refused.",
    )


def fault_of(raw: bytes, encoding: Name, offset: int) -> str | None:
    """Why a line is no text in an encoding; None if it is. ``offset``: the line's in the file."""
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding == "utf-8" else "GB18030"
        found = f"byte 0x{raw[error.start]:02x} at position {error.start + 1}"
        whole = f"byte {offset + error.start} of the file, counted from 0"
        advice = "; a GBK file must be converted first" if _reads(raw, "gb18030") else ""
        return f"not valid {name} ({found}), {whole}{advice}"
    if encoding == "gb18030" and len(_WIDE.findall(raw)) > 1 and _reads(raw, "utf-8"):
        return f"a line in UTF-8 in a GB18030 file, at byte {offset} of the file, counted from 0"
    return None


def _decodes(file: RawFile, encoding: Name) -> bool:
    """Whether the whole file is text in an encoding, without holding it."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for chunk in _chunks(file):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _chunks(file: RawFile) -> Iterator[bytes]:
    with opened(file) as stream:
        chunk = stream.read(_CHUNK).removeprefix(BOM)
        while chunk:
            yield chunk
            chunk = stream.read(_CHUNK)


def _census(file: RawFile) -> _Census:
    census = _Census()
    for block in blocks(file):
        if isinstance(block, LongLine):
            continue
        offset = block.offset
        for number, line in enumerate(block.data.split(b"\n"), start=block.first):
            if not line.isascii():
                _count(census, line, number, offset)
            offset += len(line) + 1
    return census


def _count(census: _Census, line: bytes, number: int, offset: int) -> None:
    if _reads(line, "utf-8"):
        census.utf8 += 1
        census.wide += len(_WIDE.findall(line)) > 1
        return
    census.other += 1
    if census.other == 1:
        census.first_other = (number, offset + _first_fault(line, "utf-8"))
    try:
        text = line.decode("gb18030")
    except UnicodeDecodeError as error:
        if not census.broken:
            census.broken.append((number, offset + error.start))
        return
    census.high += len(line) - len(line.translate(None, _HIGH))
    census.characters += sum(character > "\x7f" for character in text)


_HIGH = bytes(range(128, 256))


def _reads(raw: bytes, encoding: Name) -> bool:
    return _first_fault(raw, encoding) < 0


def _first_fault(raw: bytes, encoding: Name) -> int:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as error:
        return error.start
    return -1
