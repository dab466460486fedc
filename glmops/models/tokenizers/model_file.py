"""Read a SentencePiece model file: pieces, scores, kinds and normalisation rules.

The file is one protocol buffer. Of its some forty fields a tokenizer needs ten, so they are read
here from the wire format: neither protobuf nor sentencepiece is needed to open a checkpoint.

Source: google/sentencepiece, src/sentencepiece_model.proto (field numbers and enum values).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import cast

from glmops.errors import InputError


class Kind(IntEnum):
    """What a piece is for. Text becomes NORMAL and USER_DEFINED pieces, and BYTE ones for
    characters that no piece spells."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; its id is its place in the file."""

    text: str
    score: float
    kind: Kind


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """What a SentencePiece file says about encoding.

    ``charsmap`` is the compiled normalisation (empty: text is taken as it is). ``algorithm`` is
    "unigram" or "bpe".
    """

    pieces: tuple[Piece, ...]
    algorithm: str
    byte_fallback: bool
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool

    def texts(self, *kinds: Kind) -> list[str]:
        """The pieces of these kinds, in the order of their ids."""
        return [piece.text for piece in self.pieces if piece.kind in kinds]

    def id_of(self, text: str) -> int | None:
        return next((i for i, piece in enumerate(self.pieces) if piece.text == text), None)


_FLOAT = struct.Struct("<f")
_KINDS = {kind.value: kind for kind in Kind}
_ALGORITHMS = {1: "unigram", 2: "bpe"}
_REMEDY = "Copy the tokenizer's file again; its size must equal that of the published one."


def read_model_file(file: Path) -> SentencePieceModel:
    """The SentencePiece model in ``file``.

    Raises:
        InputError: The file is missing, cut short, of another format, or asks for something that
            no model of the GLM family uses (another algorithm than unigram or BPE, no byte
            fallback, spaces kept as they are or written behind words).
    """
    if not file.is_file():
        raise InputError(file, "no such file", do="Copy the tokenizer's files there.")
    try:
        model = _parse(file.read_bytes())
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise InputError(file, f"not a whole SentencePiece model ({error})", do=_REMEDY) from None
    if not model.byte_fallback or Kind.UNKNOWN not in {piece.kind for piece in model.pieces}:
        raise InputError(
            file,
            "a SentencePiece model without byte fallback or unknown piece",
            do="Use the tokenizer of a model of the GLM family.",
        )
    return model


def _parse(data: bytes) -> SentencePieceModel:
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    rules: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_piece(_message(value)))
        elif number == 2:
            trainer = dict(_fields(_message(value)))
        elif number == 3:
            rules = dict(_fields(_message(value)))
    if not pieces or not trainer or not rules:
        raise ValueError("vocabulary, trainer or normaliser settings are missing")
    if trainer.get(24) or not rules.get(5, 1):
        raise ValueError("white space is not written in front of words as U+2581")
    return SentencePieceModel(
        pieces=tuple(pieces),
        algorithm=_ALGORITHMS[cast(int, trainer.get(3, 1))],
        byte_fallback=bool(trainer.get(35, 0)),
        charsmap=_message(rules.get(2, b"")),
        add_dummy_prefix=bool(rules.get(3, 1)),
        remove_extra_whitespaces=bool(rules.get(4, 1)),
    )


def _piece(data: bytes) -> Piece:
    # The shape that nearly every one of the 130,000 pieces has: text, score and perhaps a kind.
    end = 2 + data[1]
    rest = len(data) - end
    usual = rest == 5 or (rest == 7 and data[-2] == 0x18)
    if usual and data[0] == 0x0A and data[1] < 0x80 and data[end] == 0x15:
        kind = Kind.NORMAL if rest == 5 else _KINDS[data[-1]]
        return Piece(data[2:end].decode("utf-8"), _FLOAT.unpack_from(data, end + 1)[0], kind)
    fields = dict(_fields(data))
    (score,) = _FLOAT.unpack(_message(fields.get(2, b"\0\0\0\0")))
    kind = _KINDS[cast(int, fields.get(3, 1))]
    return Piece(_message(fields[1]).decode("utf-8"), score, kind)


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a field is of the wrong type")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) in the order of the file; fixed-size values come as their bytes."""
    place = 0
    while place < len(data):
        tag = data[place]
        place += 1
        if tag >= 0x80:
            tag, place = _varint(data, place - 1)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire not in (1, 2, 5) or number == 0:
            raise ValueError(f"no protocol buffer at byte {place}")
        size = {1: 8, 5: 4}.get(wire, 0)
        if wire == 2:
            size, place = _varint(data, place)
        if place + size > len(data):
            raise ValueError(f"cut short at byte {len(data)}")
        yield number, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the place after it."""
    number = shift = 0
    while True:
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7
        if shift > 63:
            raise ValueError(f"no number at byte {place}")
