"""Send each string of ChatGLM-6B to the fastest tokenizer that is exact for it.

``Router`` stands where transformers expects the Rust tokenizer, so that every way in (calls,
batches, pairs, ``tokenize``, ``datasets.map``) passes here:

- nearly all strings: Rust, without rules for white space other than single spaces;
- strings with line breaks, tabs or other spaces: Rust, without the 79 rules for runs of spaces;
- strings with runs of spaces: Rust, with all rules (a third of the speed);
- strings in which Rust would lose text, and ties between equal scores: ``exact.py`` (slow).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import permutations
from typing import Any

from glmops.models.tokenizers.risks import Risks

# What transformers changes on a Rust tokenizer after it was made; both of ours must follow.
_CHANGES = frozenset(
    {
        "enable_truncation",
        "no_truncation",
        "enable_padding",
        "no_padding",
        "add_tokens",
        "add_special_tokens",
    }
)


class Router:
    """A Rust tokenizer that is exact for every string.

    Args:
        tiers: The tokenizer for single spaces, for other white space, and with all rules. The last
            is the one that is stored.
        exact: Builds one string's encoding without Rust's normaliser, before truncation,
            control tokens and padding.
    """

    def __init__(
        self, tiers: tuple[Any, Any, Any], exact: Callable[[Any, bool], Any], risks: Risks
    ) -> None:
        self.__dict__.update(_tiers=tiers, _whole=tiers[-1], _exact=exact, _risks=risks)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copying and pickling ask for these before there is a tokenizer
            raise AttributeError(name)
        found = getattr(self._whole, name)
        if name not in _CHANGES:
            return found

        def change(*args: Any, **settings: Any) -> Any:
            return [getattr(tier, name)(*args, **settings) for tier in self._tiers][-1]

        return change

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "normalizer":
            raise AttributeError("the normaliser of ChatGLM-6B's tokenizer cannot be changed")
        for tier in self._tiers:
            setattr(tier, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return Router, (self._tiers, self._exact, self._risks)

    def encode(
        self,
        sequence: Any,
        pair: Any = None,
        is_pretokenized: bool = False,
        add_special_tokens: bool = True,
    ) -> Any:
        item = sequence if pair is None else (sequence, pair)
        return self.encode_batch([item], is_pretokenized, add_special_tokens)[0]

    def encode_batch(
        self, input: Sequence[Any], is_pretokenized: bool = False, add_special_tokens: bool = True
    ) -> list[Any]:
        """Encodings in the order of ``input``, cut and padded as Rust does it."""
        return self._routed("encode_batch", input, is_pretokenized, add_special_tokens)

    def encode_batch_fast(
        self, input: Sequence[Any], is_pretokenized: bool = False, add_special_tokens: bool = True
    ) -> list[Any]:
        """As ``encode_batch``, without the places in the text."""
        return self._routed("encode_batch_fast", input, is_pretokenized, add_special_tokens)

    def _routed(
        self, method: str, input: Sequence[Any], is_pretokenized: bool, add_special_tokens: bool
    ) -> list[Any]:
        texts, owners = _texts(input, is_pretokenized)
        found = self._risks.find(texts)
        unsafe = {owners[index] for index in found.unsafe}
        spaced = {owners[index] for index in found.spaced} - unsafe
        lined = {owners[index] for index in found.lined} - unsafe - spaced
        simple = set(range(len(input))) - unsafe - spaced - lined
        results: list[Any] = [None] * len(input)
        for tier, chosen in zip(self._tiers, (simple, lined, spaced), strict=True):
            encodings = getattr(tier, method)(
                input if len(chosen) == len(input) else [input[index] for index in chosen],
                is_pretokenized=is_pretokenized,
                add_special_tokens=add_special_tokens,
            )
            order = range(len(input)) if len(chosen) == len(input) else chosen
            for index, encoding in zip(order, encodings, strict=True):
                results[index] = encoding
        repetitive = {owners[index] for index in found.repetitive} - unsafe
        for index in unsafe | {index for index in repetitive if _tied(results[index].tokens)}:
            results[index] = self._assembled(input[index], is_pretokenized, add_special_tokens)
        return self._padded(results)

    def _assembled(self, item: Any, is_pretokenized: bool, add_special_tokens: bool) -> Any:
        first, second = item if _is_pair(item, is_pretokenized) else (item, None)
        plain = self._whole.encode_special_tokens
        return self._whole.post_process(
            self._exact(first, plain),
            None if second is None else self._exact(second, plain),
            add_special_tokens,
        )

    def _padded(self, encodings: list[Any]) -> list[Any]:
        """Padding to the longest row means the longest of all routes."""
        padding = self._whole.padding
        if padding and padding["length"] is None and encodings:
            longest = max(len(encoding) for encoding in encodings)
            for encoding in encodings:
                encoding.pad(
                    longest,
                    **{k: padding[k] for k in ("direction", "pad_id", "pad_type_id", "pad_token")},
                )
        return encodings


def _is_pair(item: Any, is_pretokenized: bool) -> bool:
    if isinstance(item, str) or len(item) != 2:
        return False
    return not is_pretokenized or not isinstance(item[0], str)


def _texts(items: Iterable[Any], is_pretokenized: bool) -> tuple[list[str], Sequence[int]]:
    """Every string in ``items``, and the index of the item that it belongs to."""
    if isinstance(items, list) and all(type(item) is str for item in items):
        return items, range(len(items))
    texts: list[str] = []
    owners: list[int] = []
    for index, item in enumerate(items):
        sides = item if _is_pair(item, is_pretokenized) else (item,)
        for side in sides:
            words = [side] if isinstance(side, str) else side
            texts += words
            owners += [index] * len(words)
    return texts, owners


def _tied(pieces: list[str]) -> bool:
    """Whether two or three neighbours spell the same text in another order, so that another
    segmentation has the same score and rounding decides."""
    for width in (2, 3):
        for start in range(len(pieces) - width + 1):
            window = pieces[start : start + width]
            if len(set(window)) == 1:
                continue
            spelt = "".join(window)
            for other in permutations(window):
                if list(other) != window and "".join(other) == spelt:
                    return True
    return False
