"""One string of ChatGLM-6B, encoded by SentencePiece's own rules in Python, with exact spans.

Slow (some 5 µs a character), hence only for strings that Rust would get wrong. The result is an
``Encoding`` like any other: Rust then cuts it, adds the control tokens and pads.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from glmops.models.tokenizers.charsmap import Charsmap, Rules, Span
from glmops.models.tokenizers.unigram import (
    Token,
    Unigram,
    literal_pattern,
    literal_score,
    segment,
    unigram,
)

NEWLINE, TAB, LONGEST_RUN = "<n>", "<|tab|>", 80


def blank(count: int) -> str:
    """The piece that stands for a run of ``count`` spaces, 2 to 80."""
    return f"<|blank_{count}|>"


def image(index: int) -> str:
    """The name of an image id: the first release kept 20,000 ids in front for them."""
    return f"<image_{index}>"


# What line breaks, tabs and runs of spaces become before SentencePiece sees the text.
LITERALS = (NEWLINE, TAB, *(blank(count) for count in range(2, LONGEST_RUN + 1)))
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
_WHITE = re.compile(rf"\n|\t| {{1,{LONGEST_RUN}}}|[^\n\t ]+")


def white_space_written(text: str) -> tuple[str, list[Span]]:
    """``text`` with its line breaks, tabs and runs of spaces as pieces, and where each character
    of that comes from. A run is cut into 80s first; a single space that remains stays one."""
    written: list[str] = []
    spans: list[Span] = []
    for match in _WHITE.finditer(text):
        found, start = match.group(), match.start()
        if found in ("\n", "\t"):
            found = NEWLINE if found == "\n" else TAB
            spans += [match.span()] * len(found)
        elif found[0] == " " and len(found) > 1:
            found = blank(len(found))
            spans += [match.span()] * len(found)
        else:
            spans += [(place, place + 1) for place in range(start, match.end())]
        written.append(found)
    return "".join(written), spans


class _Tables(NamedTuple):
    rules: Rules
    model: Unigram


class ExactEncoder:
    """Encodes strings with the vocabulary and the rules of ``tokenizer``, without its normaliser.

    Args:
        tokenizer: The Rust tokenizer, as ``chatglm.build`` makes it.
        control: Pieces that text never becomes.
    """

    def __init__(self, tokenizer: Any, control: frozenset[str]) -> None:
        self._tokenizer, self._control = tokenizer, control

    def __reduce__(self) -> tuple[Any, ...]:
        return ExactEncoder, (self._tokenizer, self._control)

    def __call__(self, text: str | Sequence[str], plain: bool) -> Any:
        """The encoding of a string, or of words that are encoded one by one.

        Args:
            plain: Registered control tokens in the text are plain text.
        """
        words = [text] if isinstance(text, str) else text
        return _encoding([list(self._tokens(word, plain)) for word in words])

    def _tokens(self, text: str, plain: bool) -> Iterator[Token]:
        """Tokens that are looked for in the text itself, and what is between them."""
        added = added_tokens(self._tokenizer, plain)
        place, stripped = 0, False
        for match in literal_pattern(list(added)).finditer(text):
            token = added[match.group()]
            end = len(text[: match.start()].rstrip()) if token.lstrip else match.start()
            yield from self._part(text, place, max(place, end), stripped)
            index = self._tokenizer.token_to_id(token.content)
            yield Token(index, token.content, match.span())
            place, stripped = match.end(), token.rstrip
        yield from self._part(text, place, len(text), stripped)

    def _part(self, text: str, start: int, end: int, stripped: bool) -> Iterator[Token]:
        """Tokens of text[start:end]; ``stripped`` without the white space it begins with."""
        part = text[start:end]
        if stripped:
            part = part.lstrip()
            start = end - len(part)
        written, spans = white_space_written(part)
        for token in segment(written, spans, self._tables.rules, self._tables.model):
            yield token._replace(span=(token.span[0] + start, token.span[1] + start))

    @cached_property
    def _tables(self) -> _Tables:
        unusable = self._control | set(BYTES)
        vocabulary = json.loads(self._tokenizer.model.__getstate__())["vocab"]
        ids = {piece: index for index, (piece, _) in enumerate(vocabulary)}
        pieces = {
            piece: (index, score)
            for index, (piece, score) in enumerate(vocabulary)
            if piece not in unusable and piece != image(index)
        }
        lowest = min(score for piece, (_, score) in pieces.items() if piece not in LITERALS)
        for literal in LITERALS:
            pieces[literal] = ids[literal], literal_score(literal)
        return _Tables(
            Rules(Charsmap(table(self._tokenizer)), literal_pattern(list(LITERALS)), True, True),
            unigram(pieces, lowest, [ids[byte] for byte in BYTES]),
        )


def added_tokens(tokenizer: Any, plain: bool) -> dict[str, Any]:
    """The tokens that are looked for in a text before SentencePiece sees it, by their names.

    Args:
        plain: Control tokens are not.
    """
    known = tokenizer.get_added_tokens_decoder().values()
    return {token.content: token for token in known if not (plain and token.special)}


def table(tokenizer: Any) -> bytes:
    """The normalisation table of a Rust tokenizer, from the settings of its normaliser."""
    rules = json.loads(tokenizer.normalizer.__getstate__())["normalizers"]
    stored = next(rule for rule in rules if rule["type"] == "Precompiled")
    return base64.b64decode(stored["precompiled_charsmap"])


def _encoding(words: list[list[Token]]) -> Any:
    """A Rust encoding of these tokens, through the form in which Rust pickles one."""
    from tokenizers import Encoding

    tokens = [token for word in words for token in word]
    state = {
        "ids": [token.id for token in tokens],
        "type_ids": [0] * len(tokens),
        "tokens": [token.piece for token in tokens],
        "words": [index for index, word in enumerate(words) for _ in word],
        "offsets": [token.span for token in tokens],
        "special_tokens_mask": [0] * len(tokens),
        "attention_mask": [1] * len(tokens),
        "overflowing": [],
        "sequence_ranges": {},
    }
    encoding = Encoding()
    encoding.__setstate__(json.dumps(state).encode())
    return encoding
