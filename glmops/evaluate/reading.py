"""From the text of an answer to what it says: a label, or a set of triples.

Both readers take any text whatever and never raise: a text that does not follow the format is None.
They are strict on purpose. What reads the answers in production will be no more forgiving, and a
guess here would be a score that the model did not earn.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, NoReturn

FENCE = "```"
_SEPARATOR = re.compile(r"[,，;；、\n]")


class Triple(NamedTuple):
    """One extracted fact. Both types are given, or neither is."""

    subject: str
    predicate: str
    object: str
    subject_type: str | None
    object_type: str | None


def parse_label(answer: str) -> str | None:
    """The label of ``["label"]``, or of a bare label on a line of its own.

    Space around the answer and around a label is dropped. A list of several labels is one label of
    its own, whatever their order: ``["b", "a", "b"]`` reads as ``["a", "b"]``. None for no label,
    broken JSON, a list that holds anything but strings, or several lines, JSON or a code fence in
    place of a bare label.
    """
    text = answer.strip()
    if text.startswith("["):
        labels = _labels(text)
    else:
        bare = len(text.splitlines()) == 1 and not text.startswith(("{", FENCE))
        labels = {text} if bare else set()
    if not labels or not all(map(_is_writable, labels)):
        return None
    return labels.pop() if len(labels) == 1 else json.dumps(sorted(labels), ensure_ascii=False)


def _labels(text: str) -> set[str]:
    """The labels of a JSON list that is the whole of ``text``; none if it is not that."""
    value, end = _decode(text)
    if not isinstance(value, list) or end < len(text):
        return set()
    labels = {item.strip() if isinstance(item, str) else "" for item in value}
    return set() if "" in labels else labels


def parse_triples(answer: str) -> frozenset[Triple] | None:
    """The triples of the first fenced ```json block; an empty list is an empty set.

    Text before and after the block is allowed. None if there is no block, it is not closed, it is
    not a JSON list of objects, or an object lacks a subject, predicate or object that is a string
    or names a key twice (which of the two is meant would be a guess). Types count only as a pair.
    """
    _, fence, rest = answer.partition(FENCE + "json")
    rest = rest.lstrip()
    if not fence:
        return None
    items, end = _decode(rest)
    if not isinstance(items, list) or not rest[end:].lstrip().startswith(FENCE):
        return None
    triples = [_triple(item) for item in items]
    return None if None in triples else frozenset(t for t in triples if t is not None)


def parse_keywords(answer: str) -> frozenset[str]:
    """The keywords between commas, semicolons and line ends, each folded to lower case.

    Chinese papers separate with ，、and ； and English ones with , and ; alike; there is no answer
    that cannot be read, only an empty one.
    """
    words = (" ".join(word.split()).casefold() for word in _SEPARATOR.split(answer))
    return frozenset(word for word in words if word)


def _triple(item: Any) -> Triple | None:
    if not isinstance(item, dict):
        return None
    fact = _strings(item, "subject", "predicate", "object")
    types = _strings(item, "subject_type", "object_type") or (None, None)
    return Triple._make((*fact, *types)) if fact else None


def _strings(item: dict[str, Any], *keys: str) -> list[str] | None:
    found = [item[key] for key in keys if isinstance(item.get(key), str)]
    return found if len(found) == len(keys) else None


def _decode(text: str) -> tuple[Any, int]:
    """The JSON value that ``text`` starts with and where it ends; (None, 0) if there is none.

    Nesting deeper than Python's stack and integers longer than its limit are no JSON to us.
    """
    try:
        return _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None, 0


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _is_writable(text: str) -> bool:
    """Half of a surrogate pair (JSON can spell one: "\\ud800") cannot be written as UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
