"""What a target's shape says: labels as a JSON list, triples as fenced JSON, or free text."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from glmops.records import Task

FENCE = "```json"
TRIPLE_KEYS = ("predicate", "subject", "object")


class BadRow(Exception):
    """Why one raw row cannot be used. Never leaves this package: the reader makes it a Refusal."""

    def __init__(self, reason: str) -> None:
        # A reason may quote half a character from the row; it must be writable itself.
        super().__init__(reason.encode("utf-8", "backslashreplace").decode("utf-8"))


def task_of(target: str) -> Task:
    """The task that a target belongs to.

    Raises:
        BadRow: It begins as a JSON list or a fenced block, and is not what such a target must be.
    """
    start = target.lstrip()
    if start.startswith("["):
        labels_in(target)
        return "classification"
    if start.startswith(FENCE) or _holds_triples(target):
        triples_in(target)
        return "triples"
    return "generation"


def labels_in(target: str) -> list[str]:
    """The labels of a classification target, a JSON list of one or more of them."""
    what = "the target's JSON list"
    labels: list[Any] = parse_json(target, what)
    if not labels:
        raise BadRow(f"{what} is empty")
    _require_writable(labels, what)
    for place, label in enumerate(labels, start=1):
        if isinstance(label, dict):
            raise BadRow(f"{what}: item {place} is an object (triples belong in a {FENCE} block)")
        if not isinstance(label, str) or not label.strip():
            raise BadRow(f"{what}: item {place} is {shape(label)}, not a label")
    return labels


def labels_of(target: str) -> list[str]:
    """The labels of any classification target: a JSON list of them, or one label as it stands."""
    if not target.lstrip().startswith("["):
        return [target.strip()]
    try:
        return labels_in(target)
    except BadRow:  # a label in brackets
        return [target.strip()]


def triples_in(target: str) -> list[dict[str, Any]]:
    """The triples of a fenced target; there may be prose around the block, but only one block."""
    what = f"the target's {FENCE} block"
    block = target.partition(FENCE)[2].lstrip()
    value, end = _decode(block, what)
    after = block[end:].lstrip()
    if not after.startswith("```"):
        raise BadRow(f"{what} is not closed after its JSON")
    if FENCE in after:
        raise BadRow(f"the target holds more than one {FENCE} block")
    if not isinstance(value, list):
        raise BadRow(f"{what} is {shape(value)}, not a list of triples")
    _require_writable(value, what)
    for place, triple in enumerate(value, start=1):
        if not isinstance(triple, dict):
            raise BadRow(f"{what}: item {place} is {shape(triple)}, not an object")
        for key in TRIPLE_KEYS:
            if not isinstance(triple.get(key), str):
                found = shape(triple[key]) if key in triple else "missing"
                raise BadRow(f"{what}: {key!r} of item {place} is {found}")
    return value


def parse_json(text: str, what: str) -> Any:
    """The one JSON value that ``text`` is, with every fault of it as a reason."""
    text = text.strip()
    value, end = _decode(text, what)
    if rest := text[end:].lstrip():
        more = "a second JSON value" if rest[0] in '{["' else "more text after its end"
        raise BadRow(f"{what} holds {more} at character {len(text) - len(rest) + 1}")
    return value


def shape(value: object) -> str:
    """What a JSON value is, in words for a reason."""
    if isinstance(value, str):
        return "text" if value.strip() else "empty text"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else "a number"


def _require_writable(value: object, what: str) -> None:
    """JSON can spell half of a character pair ("\\ud800"); UTF-8 cannot hold it."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise BadRow(f"{what} spells half a character") from None


def _holds_triples(target: str) -> bool:
    """Whether prose leads to a block of triples; a block of other JSON leaves it free text."""
    if FENCE not in target:
        return False
    try:
        triples_in(target)
    except BadRow:
        return False
    return True


def _decode(text: str, what: str) -> tuple[Any, int]:
    """The JSON value that ``text`` starts with, and where it ends."""
    try:
        return DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        fault = f"{error.msg.removesuffix(' at')} at character {error.pos + 1}"
        raise BadRow(f"{what} is not JSON ({fault})") from None
    except RecursionError:
        raise BadRow(f"{what} is nested too deeply") from None
    except ValueError as error:  # NaN, or a number of thousands of digits
        raise BadRow(f"{what} is not JSON ({error})") from None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON keeps the last of two equal keys in silence; a row must not lose text that way."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRow(f"the key {twice!r} stands twice in one object")
    return value


def _no_such_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


DECODER = json.JSONDecoder(object_pairs_hook=_no_key_twice, parse_constant=_no_such_number)
