"""TEMPLATES: how the fields of a row become a prompt and the answer to it, each written once.

A template is data, not code: ``prepare`` renders it over whole columns, ``serve`` over one row, and
both read the same parts. ``{field}`` stands for a field; ``[…]`` is left out when a field in it is
empty; nothing else has a meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

from glmops.errors import InputError
from glmops.records import Record, Task
from glmops.storage import sha256_json


class Prompt(NamedTuple):
    """A prompt in the three parts that truncation must tell apart; only ``body`` may be cut."""

    head: str
    body: str
    cue: str
    turns: tuple[int, ...] = ()
    """Characters of each earlier exchange at the start of ``head``, oldest first. Where a prompt is
    too long, whole exchanges go before anything of the body does."""


class Piece(NamedTuple):
    """``text`` with the fields of ``fields`` in it; an optional piece needs them all non-empty."""

    text: str
    fields: tuple[str, ...]
    optional: bool


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt in three parts and its answer, as texts with ``{field}`` in them."""

    task: Task | None
    """None: the shape of each row's answer says it."""
    body: str
    answer: str
    head: str = ""
    cue: str = ""
    turn: str = ""
    """One earlier exchange (``{question}``, ``{answer}``), written before the head."""
    turns: int = 0
    """How many earlier exchanges are kept: the last ones."""
    source: str = ""
    """The text that the row is about (default: the body). Rows of one source share a split side."""
    pattern: str = ""
    """For rows that come as one ready-made prompt: a regular expression with the groups head, body
    and cue over the field ``context``. A context that it does not match is all body."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the prompt needs, in order of appearance."""
        if self.pattern:
            return ("context",)
        parts = (self.head, self.body, self.cue)
        named = [name for part in parts for piece in pieces(part) for name in piece.fields]
        return tuple(dict.fromkeys(named))

    @property
    def needed(self) -> tuple[str, ...]:
        """The fields that may not be empty: those outside ``[…]``, and the answer's."""
        if self.pattern:
            return ("context", *(name for piece in pieces(self.answer) for name in piece.fields))
        parts = [piece for part in (self.head, self.body, self.cue) for piece in pieces(part)]
        parts = [*(piece for piece in parts if not piece.optional), *pieces(self.answer)]
        return tuple(dict.fromkeys(name for piece in parts for name in piece.fields))

    def prompt(self, fields: Mapping[str, object]) -> Prompt:
        """The prompt of one row; ``history`` may hold earlier ``(question, answer)`` pairs.

        Raises:
            InputError: A field that is not optional is missing or is not text.
        """
        if self.pattern:
            context = _text(fields, "context")
            match = re.fullmatch(self.pattern, context)
            if match is None:
                return Prompt("", context, "")
            return Prompt(match["head"], match["body"], match["cue"])
        turns = self._turns(fields)
        head = "".join(turns) + render(self.head, fields)
        body, cue = render(self.body, fields), render(self.cue, fields)
        return Prompt(head, body, cue, tuple(map(len, turns)))

    def hash(self) -> str:
        """Of everything the template says: another text is another contract."""
        return sha256_json(asdict(self))

    def _turns(self, fields: Mapping[str, object]) -> list[str]:
        history = fields.get("history") or ()
        if not self.turns:
            return []
        if not isinstance(history, list | tuple) or not all(map(_is_pair, history)):
            raise InputError(
                "field 'history'",
                "not a list of [question, answer] pairs",
                got=history,
                do="Give the earlier exchanges, oldest first, and [] where there are none.",
            )
        kept = history[-self.turns :]
        return [render(self.turn, {"question": q, "answer": a}) for q, a in kept]


def prompt_of(row: Record) -> Prompt:
    """The prompt of a prepared row."""
    return Prompt(row.head, row.body, row.cue, turn_lengths(row.turns))


def turn_lengths(said: str) -> tuple[int, ...]:
    """``Prompt.turns`` from a row's ``turns``."""
    return tuple(map(int, said.split(","))) if said else ()


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


_PIECE = re.compile(r"\[(?P<optional>[^\[\]]*)\]|(?P<plain>[^\[\]]+)")
_FIELD = re.compile(r"\{([a-z]+)\}")


def pieces(text: str) -> list[Piece]:
    """The pieces of a template's part, in order."""
    found = []
    for match in _PIECE.finditer(text):
        optional = match["optional"] is not None
        piece = match["optional"] if optional else match["plain"]
        found.append(Piece(piece, tuple(_FIELD.findall(piece)), optional))
    return found


def render(text: str, fields: Mapping[str, object]) -> str:
    """A template's part with one row's fields in it."""
    written = []
    for piece in pieces(text):
        if piece.optional and not all(fields.get(name) for name in piece.fields):
            continue
        written.append(_FIELD.sub(lambda match: _text(fields, match[1]), piece.text))
    return "".join(written)


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise InputError(f"field {name!r}", "no text under this name", got=value, do="Give it.")
    return value


# The layout of the published multi-task rows: an instruction, a question above the first blank
# line, the text asked about (which may have paragraphs), and the answer cue.
_CONTEXT = r"(?s)(?P<head>Instruction: .*?\nInput: (?:.*?\n\n)?)(?P<body>.*)(?P<cue>\nAnswer: ?)"

TEMPLATES: dict[str, Template] = {
    "context-target": Template(None, body="{context}", answer="{target}", pattern=_CONTEXT),
    "headline-category": Template(
        "classification",
        head="下面是一条新闻标题，请说出它属于哪个类别。\n标题：",
        body="{title}",
        cue="\n类别：",
        answer="{category}",
    ),
    # One text for both directions: the category of a title, or a title and its category.
    "title-bar-category": Template("classification", body="{title}", cue="|", answer="{category}"),
    "headline-keywords": Template(
        "keywords",
        head="下面是一条新闻标题，请列出它的关键词，用逗号隔开。\n标题：",
        body="{title}",
        cue="\n关键词：",
        answer="{keywords}",
    ),
    # AdvertiseGen as published: the attributes alone are the prompt.
    "ad-text": Template("generation", body="{content}", answer="{summary}"),
    "paper-label": Template(
        "classification",
        head="Is this a paper of the medical field? Answer 1 for yes and 0 for no.\n",
        body="title:{title},abstract:{abstract}",
        cue="\nAnswer: ",
        answer="{label}",
        source="{title}",
    ),
    "paper-label-author": Template(
        "classification",
        head="Is this a paper of the medical field? Answer 1 for yes and 0 for no.\n",
        body="title:{title},author:{author},abstract:{abstract}",
        cue="\nAnswer: ",
        answer="{label}",
        source="{title}",
    ),
    "paper-keywords": Template(
        "keywords",
        head="List the keywords of this paper, separated by commas.\n",
        body="title:{title},abstract:{abstract}",
        cue="\nKeywords: ",
        answer="{keywords}",
        source="{title}",
    ),
    # The published alpaca prompt, with the last three exchanges in front of it.
    "instruction": Template(
        "generation",
        turn="问：{question}\n答：{answer}\n",
        turns=3,
        head="问：",
        body="{instruction}[\n：{input}]",
        cue="\n答：",
        answer="{output}",
    ),
    # No prompt at all: every token is learnt.
    "text": Template("generation", body="", answer="{text}", source="{text}"),
}
