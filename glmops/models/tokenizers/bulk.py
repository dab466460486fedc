"""Ids of many strings of ChatGLM-6B at once, by the SentencePiece library where it is installed.

For ids alone its C++ is some six times faster than Rust's Unigram, and exact by nature. It gets the
model back from the pieces, scores and rules of our tokenizer, so a stored tokenizer needs no file
besides tokenizer.json. Rust remains the way to everything else: places in the text, pairs, cutting
and padding, and to the ids where the library is missing.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from glmops.models.tokenizers.exact import (
    BYTES,
    LITERALS,
    LONGEST_RUN,
    NEWLINE,
    TAB,
    added_tokens,
    blank,
    image,
    table,
)
from glmops.models.tokenizers.model_file import Kind
from glmops.models.tokenizers.unigram import literal_pattern

_WHITE = re.compile(rf"\n|\t| {{2,{LONGEST_RUN}}}")


class Bulk:
    """``ids`` of many strings.

    Args:
        tokenizer: The Rust tokenizer, as ``chatglm_tokenizer`` makes it.
        control: Pieces that text never becomes.
    """

    def __init__(self, tokenizer: Any, control: Sequence[str]) -> None:
        self._tokenizer, self._control = tokenizer, control

    def __reduce__(self) -> tuple[Any, ...]:
        return Bulk, (self._tokenizer, self._control)

    def ids(self, texts: Sequence[str], *, plain: bool) -> list[list[int]] | None:
        """Ids without control tokens around them; None where this way cannot be gone: the library
        is missing, or a token stands in a text that SentencePiece does not know.

        Args:
            plain: Control tokens that somebody typed are plain text.
        """
        if find_spec("sentencepiece") is None:
            return None
        joined = "\0".join(texts)
        if literal_pattern(list(added_tokens(self._tokenizer, plain))).search(joined):
            return None
        if "\n" in joined or "\t" in joined or "  " in joined:
            texts = [_WHITE.sub(_white, text) for text in texts]
        library, offset = self._library
        rows: list[list[int]] = library.encode(list(texts), out_type=int, num_threads=_threads())
        return [[token + offset for token in row] for row in rows] if offset else rows

    @cached_property
    def _library(self) -> tuple[Any, int]:
        """The library's processor, and how many ids of images stand in front of its own."""
        import sentencepiece

        vocabulary = json.loads(self._tokenizer.model.__getstate__())["vocab"]
        images = 0
        while vocabulary[images][0] == image(images):
            images += 1
        model = _model_bytes(vocabulary[images:], self._control, table(self._tokenizer))
        return sentencepiece.SentencePieceProcessor(model_proto=model), images


def _white(match: re.Match[str]) -> str:
    found = match[0]
    return NEWLINE if found == "\n" else TAB if found == "\t" else blank(len(found))


def _threads() -> int:
    """As many as the Rust library would take."""
    if os.environ.get("TOKENIZERS_PARALLELISM", "true").lower() in ("false", "0", "off", "no"):
        return 1
    return int(os.environ.get("RAYON_NUM_THREADS") or os.cpu_count() or 1)


def _model_bytes(
    vocabulary: Iterable[tuple[str, float]], control: Sequence[str], charsmap: bytes
) -> bytes:
    """A SentencePiece model file; see ``model_file`` for the fields."""
    kinds = dict.fromkeys(control, Kind.CONTROL) | dict.fromkeys(LITERALS, Kind.USER_DEFINED)
    kinds |= dict.fromkeys(BYTES, Kind.BYTE) | {"<unk>": Kind.UNKNOWN}
    pieces = [
        _bytes_field(1, text.encode("utf-8"))
        + b"\x15"  # field 2, four bytes
        + struct.pack("<f", score)
        + _number_field(3, kinds.get(text, Kind.NORMAL))
        for text, score in vocabulary
    ]
    unigram_with_byte_fallback = _number_field(3, 1) + _number_field(35, 1)
    dummy_prefix_no_extra_spaces = b"".join(_number_field(number, 1) for number in (3, 4, 5))
    return (
        b"".join(_bytes_field(1, piece) for piece in pieces)
        + _bytes_field(2, unigram_with_byte_fallback)
        + _bytes_field(3, _bytes_field(2, charsmap) + dummy_prefix_no_extra_spaces)
    )


def _number_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    """Seven bits a byte, lowest first; the top bit says that more follow."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])
