"""What of a prompt is the same in every row, and may therefore be encoded once.

Ids of a text are not ids of its parts put together: a token may reach across the seam. But some
tokenizers cut every text into pieces before they look for tokens, and no token leaves its piece. At
such a cut the parts can be encoded on their own, and the ids are exactly those of the whole.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple

Seam = Callable[[str, str], bool]
"""Whether a text is always cut between two neighbouring characters, whatever stands around them.
One of the two is "" where it is not known."""

# The part of the Chinese script (Unicode 11) on which every regular-expression library agrees.
FIRST_HAN, LAST_HAN = 0x4E00, 0x9FEF

# The piece patterns of GPT-2 and of the tiktoken families (cl100k, which GLM-4 uses). In each of
# them a piece that holds a letter ends with its last letter: what follows a letter and is neither
# letter, mark nor apostrophe starts a new piece. None looks back, and only white space looks ahead.
_LETTER_RUNS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)


class Edges(NamedTuple):
    """A prompt's constant ends: ``start + head`` is its head and ``cue + end`` its cue.

    The text before ``head`` and the text after ``cue`` may be encoded on their own.
    """

    start: str
    head: str
    cue: str
    end: str


def edges(head: str, cue: str, seam: Seam) -> Edges:
    """The longest ends of a prompt that are cut off from whatever its body is."""
    begin = next((p for p in range(len(head), 0, -1) if seam(head[p - 1], head[p : p + 1])), 0)
    stop = next((p for p in range(len(cue)) if seam(cue[p - 1 : p] if p else "", cue[p])), len(cue))
    return Edges(head[:begin], head[begin:], cue[:stop], cue[stop:])


def seam_of(tokenizer_json: str) -> Seam:
    """The seams that the rules of a tokenizer (its tokenizer.json) make certain; often none."""
    rules = json.loads(tokenizer_json)
    if rules["normalizer"] or any(not token["special"] for token in rules["added_tokens"]):
        return no_seam
    if rules["model"]["type"] != "BPE" or rules["model"].get("dropout"):
        return no_seam
    first, *rest = _pre_tokenizers(rules["pre_tokenizer"])
    if any(step.get("type") != "ByteLevel" or step["add_prefix_space"] for step in rest):
        return no_seam
    if first == _split(r"\p{Han}"):
        return beside_han
    gpt2 = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    letter_runs = any(first == _split(pattern) for pattern in _LETTER_RUNS)
    if letter_runs or gpt2.items() <= first.items():
        return _after_han
    return no_seam


def _pre_tokenizers(rules: dict[str, Any] | None) -> list[dict[str, Any]]:
    if rules is None:
        return [{}]
    steps: list[dict[str, Any]] = rules["pretokenizers"] if rules["type"] == "Sequence" else [rules]
    return steps


def _split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def no_seam(before: str, after: str) -> bool:
    """For tokenizers whose tokens may reach across any place: SentencePiece's."""
    return False


def beside_han(before: str, after: str) -> bool:
    """Every Chinese character is a piece of its own."""
    return _is_han(before) or _is_han(after)


def _after_han(before: str, after: str) -> bool:
    """A Chinese character is a letter, so a piece ends where no letter follows it."""
    if not (_is_han(before) and after):
        return False
    return after != "'" and unicodedata.category(after)[0] not in "LM"


def _is_han(character: str) -> bool:
    return FIRST_HAN <= ord(character or " ") <= LAST_HAN
