"""From ids back to text, exactly as SentencePiece and the original post-processing do it.

Rust's byte fallback turns a whole run of byte pieces into replacement characters when one byte is
wrong; SentencePiece keeps the characters that are whole. So the bytes are joined here.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from glmops.models.tokenizers.charsmap import SPACE
from glmops.models.tokenizers.exact import LONGEST_RUN, NEWLINE, TAB

UNKNOWN_SURFACE = " \u2047 "
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_WHITE = re.compile(rf"{NEWLINE}|{re.escape(TAB)}|<\|blank_([2-9]|[1-7][0-9]|{LONGEST_RUN})\|>")
# The English clean-up that the original's library did by default.
_CLEANED = [(f" {mark}", mark) for mark in (".", "?", "!", ",")]
_CLEANED += [(" ' ", "'"), *((f" {end}", end) for end in ("n't", "'m", "'s", "'ve", "'re"))]


def _one_mark_per_byte(error: UnicodeError) -> tuple[str, int]:
    """SentencePiece writes one replacement character for every byte that belongs to none."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("glmops-byte", _one_mark_per_byte)


class Surfaces:
    """What each id writes.

    Args:
        hidden: Tokens that write nothing.
        unknown: The token that writes SentencePiece's question mark, if one does.
        strip_all: Spaces in front of the first visible character all go (a model that removes
            extra spaces), instead of one at most.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        hidden: Iterable[str],
        unknown: str | None = None,
        strip_all: bool = True,
    ) -> None:
        self._tokenizer, self._hidden = tokenizer, frozenset(hidden)
        self._unknown, self._strip_all = unknown, strip_all
        self._written: list[bytes] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._tokenizer, self._hidden, self._unknown, self._strip_all)

    def text(self, ids: Sequence[int]) -> str:
        """The text of ``ids``. Ids beyond the vocabulary (a model's padded rows) write nothing."""
        written = self._table()
        parts = [written[token] if 0 <= token < len(written) else b"" for token in ids]
        for index, part in enumerate(parts):
            stripped = part[1:] if part.startswith(b" ") and self._leads(ids[index]) else part
            parts[index] = stripped
            if stripped or (part and not self._strip_all):
                break
        # Bytes on both sides of a token that writes nothing make no character together.
        runs = [b"".join(run) for shown, run in groupby(parts, key=bool) if shown]
        return "".join(run.decode("utf-8", errors="glmops-byte") for run in runs)

    def _leads(self, token: int) -> bool:
        """Whether a piece begins with the mark for a space (the surface of <unk> does not)."""
        return bool(self._tokenizer.id_to_token(int(token)).startswith(SPACE))

    def _table(self) -> list[bytes]:
        if len(self._written) != self._tokenizer.get_vocab_size():
            vocabulary = self._tokenizer.get_vocab()
            self._written = [b""] * (1 + max(vocabulary.values()))
            for token, index in vocabulary.items():
                self._written[index] = self._surface(token)
        return self._written

    def _surface(self, token: str) -> bytes:
        if token == self._unknown:
            return UNKNOWN_SURFACE.encode()
        if token in self._hidden:
            return b""
        byte = _BYTE.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace(SPACE, " ").encode()


def _restored(
    tokenizer: Any, hidden: frozenset[str], unknown: str | None, strip_all: bool
) -> Surfaces:
    return Surfaces(tokenizer, hidden=hidden, unknown=unknown, strip_all=strip_all)


def white_space_read(text: str) -> str:
    """Line breaks, tabs and runs of spaces in place of their pieces."""
    if "<" not in text:
        return text
    return _WHITE.sub(
        lambda match: " " * int(match[1]) if match[1] else "\n" if match[0] == NEWLINE else "\t",
        text,
    )


def clean_up(text: str) -> str:
    """Without the spaces that English punctuation and short forms do not want."""
    for written, wanted in _CLEANED:
        text = text.replace(written, wanted)
    return text
