"""How long rows are, what was cut and what did not fit: for the metrics and for a plot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from glmops.contract import Contract

if TYPE_CHECKING:
    from glmops.encode.ragged import Ints

BINS = 64
"""Bins of the plot: the longest row that the contract allows is in the last one."""


class Lengths(NamedTuple):
    """Tokens of each encoded row, its control tokens included, and what its prompt lost: characters
    of its body, and whole earlier exchanges."""

    prompts: Ints
    rows: Ints
    cut: Ints
    turns: Ints

    @property
    def parts(self) -> dict[str, Ints]:
        return {"prompt": self.prompts, "answer": self.rows - self.prompts, "row": self.rows}


def measure(lengths: Lengths, refused: dict[str, int]) -> dict[str, Any]:
    """Counts, percentiles and a coarse histogram; ``refused`` counts refused rows by reason."""
    cut = lengths.cut[lengths.cut > 0]
    return {
        "rows": len(lengths.rows),
        "refused": sum(refused.values()),
        "refused-for": refused,
        "cut-prompts": len(cut),
        "cut-characters": percentiles(cut),
        "cut-histories": int((lengths.turns > 0).sum()),
        "cut-turns": int(lengths.turns.sum()),
        "tokens": int(lengths.rows.sum()),
        "learnt-tokens": int(lengths.parts["answer"].sum()),
        **{f"{part}-tokens": percentiles(values) for part, values in lengths.parts.items()},
        "histogram": {part: doubling(values) for part, values in lengths.parts.items()},
    }


def percentiles(values: Ints) -> dict[str, int]:
    """Nearest-rank percentiles: each is a length that occurs. Nothing for no values."""
    import numpy as np

    if not len(values):
        return {}
    ordered = np.sort(values)

    def at(percent: int) -> int:
        rank = -(-percent * len(ordered) // 100)  # rounded up
        return int(ordered[rank - 1])

    return {"p50": at(50), "p95": at(95), "max": int(ordered[-1])}


def doubling(values: Ints) -> dict[str, int]:
    """How many are at most 8, how many of the others at most 16, and so on."""
    import numpy as np

    steps = np.maximum(np.ceil(np.log2(np.maximum(values, 1))), 3).astype(int)
    counts = np.bincount(steps)
    return {f"to-{2**step}": int(counts[step]) for step in range(3, len(counts))}


def histogram_csv(lengths: Lengths, contract: Contract) -> str:
    """``tokens,prompt,answer,row``: how many have at most ``tokens`` tokens and more than the line
    above says."""
    import numpy as np

    limit = contract.max_prompt_tokens + contract.max_answer_tokens
    width = math.ceil(limit / BINS)
    counts = [
        np.bincount(np.maximum(values - 1, 0) // width, minlength=BINS)
        for values in lengths.parts.values()
    ]
    lines = [",".join(["tokens", *lengths.parts])]
    for place, each in enumerate(zip(*counts, strict=True)):
        lines.append(",".join(map(str, ((place + 1) * width, *each))))
    return "\n".join(lines) + "\n"
