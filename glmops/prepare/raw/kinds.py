"""What a text file looks like, so that one of another format gets one error that says so."""

from __future__ import annotations

import json
import re

from glmops.errors import InputError
from glmops.prepare.formats import Layout
from glmops.prepare.raw.files import RawFile

_ARRAY = re.compile(rb"\s*\[\s*(?:[\]{]|$)")


def is_array(head: bytes) -> bool:
    """Whether a file is a JSON array of rows (and not lines of which the first is a list)."""
    return _ARRAY.match(head) is not None


def require_json(file: RawFile, head: bytes) -> None:
    """Refuse a file that is plainly neither a JSON array nor one JSON value per line.

    Args:
        head: The first bytes of the file.
    """
    if is_array(head):
        return
    lines = _lines(head)
    first = lines[0].strip()
    objects = [line for line in lines[:20] if line.lstrip().startswith("{")]
    if first == "{" and not any(_is_json(line) for line in objects):
        what, do = "one JSON document over several lines", "Write each row on one line."
    elif objects or _is_json(first):
        return
    else:
        what, do = _separated(lines)
    fault = f"expected a JSON array, or one JSON object per line; this looks like {what}"
    raise InputError(file.shown, fault, do=do)


def require_separated(file: RawFile, head: bytes, layout: Layout) -> None:
    """Refuse a file of JSON where lines of separated fields are expected."""
    first = _lines(head)[0].strip()
    if is_array(head) or first.startswith("{"):
        what = "a JSON array" if is_array(head) else "JSON lines"
        fault = f"expected fields with separators; this looks like {what}"
        raise InputError(file.shown, fault, do="Name its own format.")
    if layout.kind == "lines" and "_!_" not in head.decode("utf-8", "replace"):
        what, do = _separated(_lines(head))
        fault = f"expected fields split by '_!_'; this looks like {what}"
        raise InputError(file.shown, fault, do=do)


def _separated(lines: list[str]) -> tuple[str, str]:
    first = lines[0].strip()
    if "_!_" in first:
        return "lines separated by '_!_'", "Name its own format."
    if "," in first or "\t" in first:
        kind = "a CSV header without rows" if len(lines) == 1 else "a CSV table"
        return f"{kind} (first line {first[:60]!r})", "Name its own format."
    return f"plain text (first line {first[:60]!r})", "Check the path and the format."


def _lines(head: bytes) -> list[str]:
    return [line for line in head.decode("utf-8", "replace").split("\n") if line.strip()]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
