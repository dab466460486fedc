"""FORMATS: how each raw format is read, row by row, into records and refusals.

A new format is a function and an entry here. It yields, in order, one Record or Refusal per row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from glmops.errors import lookup
from glmops.prepare.files import Line, RawFile, lines_of, raw_files, require_json_lines
from glmops.prepare.targets import BadRow, parse_json, shape, task_of
from glmops.records import Record, Refusal
from glmops.storage import sha256_text
from glmops.templates import TEMPLATES

Reader = Callable[[RawFile], Iterator[Record | Refusal]]

# Line feed, tab and carriage return are text; so is everything from U+00A0 on.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# JSON can spell half a surrogate pair; UTF-8 cannot hold it.
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def read(
    path: Path | str, format: str, *, root: Path | None = None
) -> tuple[list[Record], list[Refusal]]:
    """Every raw row of a file or folder as a record or as a refusal. Repeated rows are all there.

    Args:
        root: Files below it are named relative to it; the project around here when None.
    Raises:
        RecipeError: The format is unknown.
        InputError: The path or a whole file cannot be used; see ``files``.
    """
    reader = lookup(FORMATS, format, "format")
    records: list[Record] = []
    refusals: list[Refusal] = []
    for file in raw_files(Path(path), root):
        for row in reader(file):
            if isinstance(row, Record):
                records.append(row)
            else:
                refusals.append(row)
    return records, refusals


def read_context_target(file: RawFile) -> Iterator[Record | Refusal]:
    """JSON lines of ``{"context": prompt, "target": answer}``, both text and nothing else."""
    require_json_lines(file)
    for line in lines_of(file):
        try:
            text = decode(line)
            if not text.strip():
                if line.last:
                    return
                raise BadRow("a blank line among the rows")
            fields = text_fields(text, ("context", "target"))
            yield record_of("context-target", fields, fields["target"], file, line.number)
        except BadRow as bad:
            raw = line.raw.decode("utf-8", "backslashreplace")
            yield Refusal(file.shown, line.number, str(bad), raw)


FORMATS: dict[str, Reader] = {"context-target": read_context_target}


def decode(line: Line) -> str:
    """A line's text, or why it has none."""
    try:
        return line.raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line.raw[error.start]:02x} at position {error.start + 1}"
        raise BadRow(f"not valid UTF-8 ({byte}); a GBK file must be converted first") from None


def text_fields(text: str, keys: tuple[str, ...]) -> dict[str, str]:
    """The object on a line, which must have exactly ``keys``, each with usable text."""
    row = parse_json(text, "the line")
    if not isinstance(row, dict):
        raise BadRow(f"the line is {shape(row)}, not an object")
    if set(row) != set(keys):
        found = ", ".join(repr(key[:30]) for key in list(row)[:6]) or "none"
        raise BadRow(f"expected the keys {' and '.join(map(repr, keys))}, got {found}")
    for key in keys:
        _require_text(key, row[key])
    return row


def record_of(
    template: str, fields: Mapping[str, str], target: str, file: RawFile, line: int
) -> Record:
    """A record from checked fields; its id depends on prompt and target alone."""
    task = task_of(target)
    prompt = TEMPLATES[template].prompt(fields)
    return Record(
        id=sha256_text("".join(prompt) + "\0" + target)[:16],
        task=task,
        head=prompt.head,
        body=prompt.body,
        cue=prompt.cue,
        target=target,
        group=" ".join(prompt.body.split()),
        file=file.shown,
        line=line,
    )


def _require_text(key: str, value: object) -> None:
    if not isinstance(value, str):
        raise BadRow(f"{key!r} is {shape(value)}, not text")
    if not value.strip():
        raise BadRow(f"{key!r} is empty")
    for pattern, what in ((_CONTROL, "the control character"), (_SURROGATE, "half a character,")):
        if found := pattern.search(value):
            place = f"U+{ord(found[0]):04X} at character {found.start() + 1}"
            raise BadRow(f"{key!r} holds {what} {place}")
