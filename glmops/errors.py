"""Every error that glmops raises on purpose, as a tree.

    GlmopsError          exit code 1   a fault of ours or of the machine
    ├── InputError       exit code 2   data, a file or a checkpoint that cannot be used
    ├── RecipeError      exit code 2   a recipe, an override or a command line that cannot be used
    ├── MachineError     exit code 1   disk, memory, a missing program, a busy lock
    ├── IntegrityError   exit code 1   stored bytes are not the bytes that were recorded
    └── RefusedError     exit code 3   a gate or a policy said no

Each one prints as ``<where>: <what is wrong>, got <value>. <what to do>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, TypeVar

T = TypeVar("T")

_NOTHING = object()


class GlmopsError(Exception):
    """A fault with a place, a reason and a way out.

    Args:
        where: File, file:line, recipe key or command that the fault belongs to.
        what: What is wrong there, without a full stop.
        got: The offending value; left out of the message when there is none.
        do: What the reader should do, as a sentence.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, where: object, what: str, *, got: object = _NOTHING, do: str) -> None:
        self.where, self.what, self.got, self.do = str(where), what, got, do
        super().__init__(self._text())

    def _text(self) -> str:
        got = "" if self.got is _NOTHING else f", got {_shorten(self.got)}"
        return f"{self.where}: {self.what}{got}. {self.do}"


class InputError(GlmopsError):
    """Data, a file or a checkpoint that cannot be used."""

    exit_code = 2


class RecipeError(GlmopsError):
    """A recipe, an override or a command line that cannot be used."""

    exit_code = 2


class MachineError(GlmopsError):
    """The machine refuses: disk, memory, a missing program, a busy lock."""


class IntegrityError(GlmopsError):
    """Stored bytes are not the bytes that were recorded."""


class RefusedError(GlmopsError):
    """A gate or a policy said no."""

    exit_code = 3


def lookup(table: Mapping[str, T], key: str, where: object) -> T:
    """The entry of ``table`` under ``key``; an unknown key names the known ones."""
    if key not in table:
        raise RecipeError(where, "unknown name", got=key, do=f"Known: {', '.join(sorted(table))}.")
    return table[key]


def _shorten(value: object, limit: int = 120) -> str:
    """One line of at most ``limit`` characters: a message must not carry a whole bad file."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
