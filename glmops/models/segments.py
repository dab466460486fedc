"""What a packed training row needs so that its segments do not see each other.

``encode`` stores a pack as the lengths of its segments. These functions turn them into what the
models take, without torch: a collator makes tensors of them.
"""

from __future__ import annotations

from collections.abc import Sequence


def segment_numbers(lengths: Sequence[int], width: int) -> list[int]:
    """1 for the tokens of the first segment, 2 for the second, …; 0 for padding up to ``width``.

    As ``attention_mask`` [B, T] this tells ChatGLM-6B's model which tokens belong together.
    """
    numbers = [number for number, length in enumerate(lengths, 1) for _ in range(length)]
    return numbers + [0] * (width - len(numbers))


def restarting_positions(lengths: Sequence[int], width: int) -> list[int]:
    """0, 1, 2, … anew in each segment, and 0 for padding up to ``width``.

    As ``position_ids`` [B, T], without an attention mask and without a cache, this keeps the
    segments of GLM-4 and other causal models of transformers apart: it finds the borders where the
    positions start again.
    """
    positions = [place for length in lengths for place in range(length)]
    return positions + [0] * (width - len(positions))
