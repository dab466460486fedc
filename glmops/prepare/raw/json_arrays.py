"""A JSON array of rows, element by element, with the line that each begins on.

Only the text of a few elements is in memory. What is no JSON ends the file with the line of the
fault; what is JSON and no good row (a key twice, NaN, nested too deeply) is refused alone.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from glmops.errors import InputError
from glmops.prepare.raw.encodings import Encoding
from glmops.prepare.raw.files import RawFile
from glmops.prepare.raw.opening import BOM, LONGEST_LINE, opened
from glmops.prepare.targets import DECODER, BadRow

CHUNK = 1 << 20
_OPEN = "it is never closed"
_QUICK = json.JSONDecoder()
_BLANKS = re.compile(r"[ \t\r\n]*")
_FOLLOWING = re.compile(r"[ \t\r\n]*,[ \t\r\n]*\{")
_SCALAR = re.compile(r"[^,\]}\s]*")
# How a byte that is no text is kept in the text around it.
_BROKEN = re.compile(r"[\udc80-\udcff]")
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+("|\Z)|[\[\]{}]', re.DOTALL)


@dataclass(slots=True)
class _Window:
    """The text from the current place on. ``line`` is the one that ``at`` is on."""

    file: RawFile
    encoding: Encoding
    chunks: Iterator[str]
    text: str = ""
    at: int = 0
    line: int = 1
    offset: int = 0
    """Byte of the file that ``at`` is on; only counted when some of its bytes are no text."""

    def more(self) -> bool:
        """Add a chunk of text, dropping what is used; False at the end of the file."""
        chunk = next(self.chunks, None)
        if chunk is None:
            return False
        self.text, self.at = self.text[self.at :] + chunk, 0
        return True

    def move(self, to: int) -> None:
        self.line += self.text.count("\n", self.at, to)
        if not self.encoding.clean:
            used = self.text[self.at : to].encode(self.encoding.name, "surrogateescape")
            self.offset += len(used)
        self.at = to

    def next_mark(self) -> str:
        """The next character that is no blank, which is then the current one; "" at the end."""
        while True:
            self.move(_BLANKS.match(self.text, self.at).end())  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def fault(self, what: str, at: int | None = None) -> InputError:
        line = self.line + self.text.count("\n", self.at, self.at if at is None else at)
        return InputError(
            f"{self.file.shown}:{line}",
            f"the file is not a JSON array: {what}",
            do="Mend that place; everything before it was read.",
        )


def array_elements(file: RawFile, encoding: Encoding) -> Iterator[tuple[int, str, object]]:
    """Line, raw text and value of each element; a BadRow in place of a value is its reason.

    Raises:
        InputError: The file is not one JSON array with at least one element.
    """
    window = _Window(file, encoding, _texts(file, encoding))
    window.next_mark()  # it is "[": that is how the file was recognised
    window.move(window.at + 1)
    if (mark := window.next_mark()) in ("", "]"):
        if not mark:
            raise window.fault(_OPEN)
        raise InputError(file.shown, "an array without rows", do="Give it rows, or leave it out.")
    while True:
        yield _element(window)
        following = _FOLLOWING.match(window.text, window.at)
        if following:  # the usual case, at once
            window.move(following.end() - 1)
            continue
        mark = window.next_mark()
        if mark not in (",", "]"):
            what = f"{mark!r} stands where ',' or ']' should" if mark else _OPEN
            raise window.fault(what)
        window.move(window.at + 1)
        if mark == "]":
            break
        if (mark := window.next_mark()) in ("", "]"):
            closed = "a comma stands before the closing ']'" if mark else _OPEN
            raise window.fault(closed)
    if window.next_mark():
        raise window.fault("there is more text after its closing ']'")


def _element(window: _Window) -> tuple[int, str, object]:
    """The element that begins at the current place, which then moves behind it."""
    while True:
        # A number may go on in the next chunk; everything else says itself where it ends.
        if _may_go_on(window) and window.more():
            continue
        found = _decoded(window.text, window.at)
        if isinstance(found, tuple):
            break
        if isinstance(found, json.JSONDecodeError):
            close = _end_of_value(window.text, window.at)
            whole = close is not None and close < len(window.text)
            if whole or len(window.text) - window.at > LONGEST_LINE or not window.more():
                what = f"{found.msg.removesuffix(' at')} at column {found.colno}"
                raise window.fault(what, found.pos)
        elif found is None and not window.more():
            raise window.fault(_OPEN)
    value, end = found
    line, raw, offset = window.line, window.text[window.at : end], window.offset
    window.move(end)
    if (reason := _not_text(raw, window.encoding, offset)) is not None:
        value = BadRow(reason)
        encoded = raw.encode(window.encoding.name, "surrogateescape")
        raw = encoded.decode(window.encoding.name, "backslashreplace")
    return line, raw, value


def _may_go_on(window: _Window) -> bool:
    scalar = window.text[window.at] not in '[{"'
    return scalar and _end_of_value(window.text, window.at) == len(window.text)


def _decoded(text: str, at: int) -> tuple[object, int] | json.JSONDecodeError | None:
    """The value at a place and its end, the fault of it, or None when it is cut short.

    A value that is JSON and that no row may hold comes as a BadRow.
    """
    try:
        value, end = _QUICK.raw_decode(text, at)
        if _is_plain(text, at, end, value):
            return value, end
        return DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        return error
    except BadRow as bad:
        reason = bad
    except RecursionError:
        reason = BadRow("the row is nested too deeply")
    except ValueError as error:  # NaN, or a number of thousands of digits
        reason = BadRow(f"the row is not JSON ({error})")
    close = _end_of_value(text, at)
    return None if close is None else (reason, close)


def _is_plain(text: str, at: int, end: int, value: object) -> bool:
    """Whether a decoded value is an object of texts in which no key can stand twice.

    Such an object has four quotes a pair and, without doubled backslashes, every other quote is
    behind one. A pair that was lost to an equal key would leave quotes over.
    """
    if not isinstance(value, dict) or not all(type(text) is str for text in value.values()):
        return False
    quotes = text.count('"', at, end)
    if text.find("\\", at, end) >= 0:
        if text.find("\\\\", at, end) >= 0:
            return False
        quotes -= text.count('\\"', at, end)
    return quotes == 4 * len(value)


def _end_of_value(text: str, at: int) -> int | None:
    """Where the brackets that open at a place are closed again; None when they are not."""
    if text[at] not in '[{"':
        return _SCALAR.match(text, at).end()  # type: ignore[union-attr]
    depth = 0
    for token in _TOKEN.finditer(text, at):
        if token[0][0] == '"':
            if not token[1]:
                return None
        else:
            depth += 1 if token[0] in "[{" else -1
        if depth <= 0:
            return token.end()
    return None


def _not_text(raw: str, encoding: Encoding, offset: int) -> str | None:
    """Why an element holds bytes that are no text; None if it holds none."""
    if encoding.clean or not (found := _BROKEN.search(raw)):
        return None
    before = len(raw[: found.start()].encode(encoding.name, "surrogateescape"))
    byte, name = ord(found[0]) - 0xDC00, encoding.name.upper()
    return (
        f"not valid {name} (byte 0x{byte:02x} at character {found.start() + 1}), "
        f"byte {offset + before} of the file, counted from 0"
    )


def _texts(file: RawFile, encoding: Encoding) -> Iterator[str]:
    errors = "strict" if encoding.clean else "surrogateescape"
    decoder = codecs.getincrementaldecoder(encoding.name)(errors)
    with opened(file) as stream:
        chunk = stream.read(CHUNK).removeprefix(BOM)
        while chunk:
            if text := decoder.decode(chunk):
                yield text
            chunk = stream.read(CHUNK)
        if text := decoder.decode(b"", final=True):
            yield text
