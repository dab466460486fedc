"""CSV text → rows of cells, with the line that each row begins on.

A block in which every line is a row is read at once. In any other block each row is read alone: a
quote that is never closed would swallow the rows after it, so the line on which it was opened is
refused and reading goes on with the next line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO

from glmops.errors import InputError
from glmops.prepare.raw.encodings import Encoding, fault_of
from glmops.prepare.raw.files import RawFile
from glmops.prepare.raw.lines import BLANK
from glmops.prepare.raw.opening import LongLine, blocks

BAD_QUOTES = 100
"""Lines with a quote that is never closed, before the file as a whole is refused."""
_ENDLESS = "unexpected end of data"


@dataclass(slots=True)
class Table:
    """Some rows of a table, in three lists of one length, and (line, reason, raw) of the refused.

    ``controls``: whether any cell may hold a control character.
    """

    lines: list[int] = field(default_factory=list)
    raws: list[str] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    controls: bool = False


@dataclass(slots=True)
class _Text:
    """The lines that are being read; csv.reader takes them from ``at`` on."""

    first: int
    offset: int
    lines: list[str]
    last: bool
    at: int = 0
    counted: int = 0
    """The line that begins at the byte ``offset`` of the file."""

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        if self.at == len(self.lines):
            raise StopIteration
        self.at += 1
        return self.lines[self.at - 1]


def csv_tables(file: RawFile, encoding: Encoding, separator: str) -> Iterator[Table]:
    """A CSV file block by block, its first row included; a row of another width is refused.

    Raises:
        InputError: A line is too long to be held, or too many quotes are never closed.
    """
    rest: list[str] = []
    reader = _Reader(file, encoding, separator)
    for block in blocks(file):
        if isinstance(block, LongLine):
            raise InputError(
                f"{file.shown}:{block.number}",
                "the line is too long for a table",
                got=f"{block.size} bytes",
                do="Check the file: are its line breaks missing?",
            )
        errors = "strict" if encoding.clean else "surrogateescape"
        # Only a line feed ends a line here, as everywhere.
        lines = rest + list(StringIO(block.data.decode(encoding.name, errors), newline="\n"))
        offset = block.offset - sum(len(reader.encoded(line)) for line in rest)
        text = _Text(block.first - len(rest), offset, lines, block.last)
        carried = bool(rest)
        table, rest = reader.read(text)
        table.controls = carried or block.may_hold_controls
        yield table


@dataclass(slots=True)
class _Reader:
    file: RawFile
    encoding: Encoding
    separator: str
    width: int = 0
    unclosed: int = 0
    blank: tuple[int, str, str] | None = None
    """A blank line, which is no row if it turns out to be the last."""

    def read(self, text: _Text) -> tuple[Table, list[str]]:
        """The rows of a text, and the lines of a row that goes on in the next block."""
        if self.encoding.clean and (table := self._at_once(text)):
            return table, []
        return self._one_by_one(text)

    def encoded(self, line: str) -> bytes:
        return line.encode(self.encoding.name, "surrogateescape")

    def _rows(self, text: _Text) -> Iterator[list[str]]:
        return csv.reader(text, delimiter=self.separator, strict=True)

    def _at_once(self, text: _Text) -> Table | None:
        """All rows, if every line is one of them and they are equally wide."""
        try:
            rows = list(self._rows(text))
        except csv.Error:
            return None
        finally:
            text.at = 0
        width = self.width or (len(rows[0]) if rows else 0)
        if len(rows) != len(text.lines) or set(map(len, rows)) != {width} or self.blank:
            return None
        if not text.lines[-1].strip():
            return None
        self.width = width
        raws = [line.removesuffix("\n").removesuffix("\r") for line in text.lines]
        return Table(list(range(text.first, text.first + len(rows))), raws, rows)

    def _one_by_one(self, text: _Text) -> tuple[Table, list[str]]:
        table = Table()
        rows = self._rows(text)
        while text.at < len(text.lines):
            start, fault = text.at, None
            try:
                cells = next(rows)
            except csv.Error as error:
                cells, fault = [], str(error)
            if fault == _ENDLESS and not text.last:
                return table, text.lines[start:]
            self._add(table, text, start, cells, fault)
        return table, []

    def _add(
        self, table: Table, text: _Text, start: int, cells: list[str], fault: str | None
    ) -> None:
        """The row that begins at the line ``start``, to its place in the table."""
        if self.blank:
            table.refused.append(self.blank)
            self.blank = None
        number, end = text.first + start, text.first + text.at - 1
        if fault is None and start + 1 == text.at and not text.lines[start].strip():
            self.blank = (number, BLANK, text.lines[start].strip("\r\n"))
            return
        self.width = self.width or len(cells)
        wrong = fault is not None or len(cells) != self.width
        if fault == _ENDLESS or (wrong and end > number):
            self._count_unclosed(number)
            text.at = start + 1
            upto = f" (looked for up to line {end})" if end > number else ""
            fault = f"a quote opened on this line is not closed as CSV closes it{upto}"
        elif fault is not None:
            fault = f"not CSV ({fault})"
        elif wrong:
            fault = f"expected {self.width} fields, got {len(cells)}"
        lines = text.lines[start : text.at]
        raw = "".join(lines).removesuffix("\n").removesuffix("\r")
        if fault := self._no_text(text, start, lines) or fault:
            shown = self.encoded(raw).decode(self.encoding.name, "backslashreplace")
            table.refused.append((number, fault, shown))
        else:
            table.lines.append(number)
            table.raws.append(raw)
            table.cells.append(cells)

    def _no_text(self, text: _Text, start: int, lines: list[str]) -> str | None:
        """Why some of these lines are no text; None if they are."""
        if self.encoding.clean:
            return None
        while text.counted < start:
            text.offset += len(self.encoded(text.lines[text.counted]))
            text.counted += 1
        offset = text.offset
        for line in map(self.encoded, lines):
            if fault := fault_of(line, self.encoding.name, offset):
                return fault
            offset += len(line)
        return None

    def _count_unclosed(self, line: int) -> None:
        self.unclosed += 1
        if self.unclosed > BAD_QUOTES:
            raise InputError(
                f"{self.file.shown}:{line}",
                f"more than {BAD_QUOTES} lines open a quote that is not closed as CSV closes it",
                do="Write each quote inside a field twice and the field in quotes, or use tabs.",
            )
