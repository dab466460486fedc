"""The forwards that a run will make: how many rows and tokens each has, and where the loss looks.

The order of rows is a function of the seed, so from encoded rows the longest forward of the run is
known, not guessed. Without them lengths are estimated, and say so.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from glmops.recipe import Encode, Schedule
from glmops.train.loss import measured_together
from glmops.train.order import num_steps, plan_of
from glmops.train.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOOKED_AT = 100_000
"""Forwards of a run that are looked at, from its beginning."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of each row (a pack, where rows are packed): ``tokens``, and the ``places`` of the loss in it
    (int32, [rows]). ``known`` is the number of rows where it is: limits alone tell nothing of it.
    ``source`` says where all this is from."""

    tokens: NDArray[np.int32]
    places: NDArray[np.int32]
    packed: bool
    source: str
    known: int | None


@dataclass(frozen=True, slots=True)
class Forward:
    """Rows that go through the model together, padded to ``tokens``; the loss looks at up to
    ``places`` of each."""

    rows: int
    tokens: int
    places: int
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What a phase asks of the machine.

    Attributes:
        longest: The forward with the most padded tokens, and that with the most places.
        numbers: The rows in the first of them; empty where lengths are estimated.
        typical: The rows in a forward of median length, which has ``typical_tokens``.
        mean_tokens: Padded tokens of a forward of one process.
        steps: None where the number of rows is not known.
        shapes: Of forwards, rows x tokens, that differ.
    """

    longest: tuple[Forward, ...]
    numbers: tuple[int, ...]
    typical: tuple[int, ...]
    typical_tokens: int
    mean_tokens: float
    steps: int | None
    shapes: int


def of_rows(rows: Rows, *, prompts: bool = False) -> Lengths:
    """Args:
    prompts: Prompts are learnt too.
    """
    places = rows.lengths - 1
    if not prompts:
        counts = [
            np.add.reduceat(each.learnt[: each.starts[-1]], each.starts[:-1], dtype=np.int32)
            for each in rows.batches
            if len(each.names)
        ]
        places = np.minimum(np.concatenate(counts), places)
    source = f"{len(rows)} encoded rows"
    return Lengths(rows.lengths, places.astype(np.int32), rows.packed, source, len(rows))


def of_prepared(file: Path, settings: Encode, *, prompts: bool = False) -> Lengths:
    """One token a character, within the limits: more than most tokenizers need."""
    import polars as pl

    columns = (
        pl.scan_parquet(file)
        .select(
            prompt=sum(pl.col(each).str.len_chars() for each in ("head", "body", "cue")),
            answer=pl.col("target").str.len_chars() + 1,
        )
        .collect()
    )
    prompt = np.minimum(columns["prompt"].to_numpy() + 2, settings.max_prompt_tokens)
    answer = columns["answer"].to_numpy()
    fits = answer <= settings.max_answer_tokens
    if not fits.any():
        answer, fits = np.minimum(answer, settings.max_answer_tokens), fits | True
    tokens = (prompt + answer)[fits].astype(np.int32)
    source = f"{len(tokens)} prepared rows, at one token a character"
    return _estimated(tokens, answer[fits], settings, source, len(tokens), prompts)


def of_limits(settings: Encode, *, prompts: bool = False) -> Lengths:
    """Every row as long as the recipe lets it be."""
    longest = settings.max_prompt_tokens + settings.max_answer_tokens
    tokens = np.full(4096, longest, np.int32)
    answer = np.full(4096, settings.max_answer_tokens)
    return _estimated(tokens, answer, settings, "the recipe's limits", None, prompts)


def _estimated(
    tokens: NDArray[np.int32],
    answer: NDArray[Any],
    settings: Encode,
    source: str,
    known: int | None,
    prompts: bool,
) -> Lengths:
    places = (tokens - 1 if prompts else answer).astype(np.int32)
    if settings.pack_tokens is None:
        return Lengths(tokens, places, False, source, known)
    packs = max(1, math.ceil(int(tokens.sum()) / settings.pack_tokens))
    share = int(places.sum()) / int(tokens.sum())
    full = np.full(packs, settings.pack_tokens, np.int32)
    source = f"{source}; packs taken as full"
    return Lengths(full, (full * share).astype(np.int32), True, source, known and packs)


def work_of(lengths: Lengths, schedule: Schedule, seed: int, processes: int) -> Work:
    """The forwards of a phase, in the order in which it makes them."""
    plan = plan_of(lengths.tokens, schedule, seed, processes)
    steps = None
    if schedule.max_steps is not None or lengths.known is not None:
        steps = num_steps(plan, schedule)
    limit = LOOKED_AT if steps is None else min(LOOKED_AT, steps * schedule.accumulation)
    seen: list[tuple[Forward, NDArray[np.int64]]] = []
    for epoch in itertools.count():
        for forward in plan.epoch(epoch):
            for rows in forward:
                if len(rows):
                    seen.append((_forward(lengths, rows), rows))
        if len(seen) >= min(limit, LOOKED_AT) * processes or lengths.known is None:
            break
    del seen[limit * processes :]
    most = max(seen, key=lambda each: (each[0].rows * each[0].tokens, each[0].tokens))
    widest = max(seen, key=lambda each: each[0].rows * each[0].places)
    known = not lengths.source.endswith(("character", "limits", "full"))
    ordered = sorted(seen, key=lambda each: each[0].rows * each[0].tokens)
    longest = tuple(dict.fromkeys((most[0], widest[0])))
    median, median_rows = ordered[len(ordered) // 2]
    return Work(
        longest,
        tuple(most[1].tolist()) if known else (),
        tuple(median_rows.tolist()) if known else (),
        median.rows * median.tokens,
        float(np.mean([each.rows * each.tokens for each, _ in seen])),
        steps,
        len({(each.rows, each.tokens) for each, _ in seen}),
    )


def measured_forward(dev: Lengths, vocabulary: int) -> Forward:
    """The forward over dev rows that makes the most logits."""
    batches = measured_together(dev.tokens, dev.places, vocabulary)
    found = [_forward(dev, batch) for batch in batches]
    return max(found, key=lambda each: each.rows * each.places)


def _forward(lengths: Lengths, rows: NDArray[np.int64]) -> Forward:
    longest, most = int(lengths.tokens[rows].max()), int(lengths.places[rows].max())
    return Forward(len(rows), longest, max(1, most), lengths.packed)
