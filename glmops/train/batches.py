"""Rows → the tensors of one forward, for each family of models.

Axes: B rows, T tokens, K places of a row whose logits are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from glmops.errors import RecipeError
from glmops.models.segments import restarting_positions, segment_numbers
from glmops.train.order import Sampler
from glmops.train.rows import Row, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

IGNORED = -100
"""The label that torch's cross entropy leaves out."""

PACKABLE = ("chatglm-6b", "glm", "glm4", "gpt2", "llama", "mistral", "qwen2", "qwen3")
"""Model types that keep the segments of a pack apart, each by a test. GPT-1 of transformers takes
positions that restart and attends across them all the same."""

Batch = dict[str, Any]
Collate = Callable[[Sequence[Row]], Batch]


def collate_for(family: str, *, pad: int, packed: bool, prompt_loss: float = 0.0) -> Collate:
    """The function that makes a batch of rows, padded at the right to the longest of them.

    Batches hold input_ids_BT, logits_to_keep_BK (the places of each row that predict something
    learnt), labels_BK (what follows each of them; IGNORED where a row has fewer places than K) and
    what the family needs to tell rows and padding apart. Causal models look to the left only, where
    no padding is: they get no mask, and torch its faster path. With ``prompt_loss`` there are
    weights_BK too: 1 for an answer's token, another number for a prompt's.

    A batch is given to the model with ``use_cache=False``: with a cache, transformers looks for no
    borders in the positions, and the segments of a pack see each other without a word.

    Args:
        packed: Rows are packs: their segments do not see each other. See ``require_packable``.
        prompt_loss: Weight of a prompt's token; 0: prompts are not learnt.
    """
    # num_learnt knows answers by their weight.
    prompt = np.nextafter(np.float32(1), np.float32(0)) if prompt_loss == 1 else prompt_loss

    def collate(rows: Sequence[Row]) -> Batch:
        width = max(len(row.input_ids) for row in rows)
        ids_BT = np.full((len(rows), width), pad, np.int64)
        weights_BT = np.zeros((len(rows), width), np.float32)
        for number, row in enumerate(rows):
            length = len(row.input_ids)
            ids_BT[number, :length] = row.input_ids
            weights_BT[number, :length] = np.where(row.learnt, 1, prompt) if prompt else row.learnt
            # Nothing stands before a segment's first token that could predict it.
            weights_BT[number, list(accumulate(row.segments[:-1], initial=0))] = 0
        batch: Batch = {"input_ids": torch.from_numpy(ids_BT)}
        if family == "chatglm":
            numbers = [segment_numbers(row.segments, width) for row in rows]
            batch["attention_mask"] = torch.tensor(numbers)
        elif packed:
            positions = [restarting_positions(row.segments, width) for row in rows]
            batch["position_ids"] = torch.tensor(positions)
        return batch | _targets(ids_BT, weights_BT, weighted=prompt > 0)

    return collate


def loader_for(rows: Rows, sampler: Sampler, collate: Collate) -> DataLoader[Any]:
    """What Trainer iterates: the batches of one process, epoch by epoch."""

    def batch(some: Sequence[Row]) -> Batch:
        # The guards name the rows of a step that goes wrong.
        if not some:
            return {**silenced(collate([rows[0]])), "rows": (rows[0],)}
        return {**collate(some), "rows": tuple(some)}

    loader: Any = DataLoader(rows, batch_sampler=sampler, collate_fn=batch)  # type: ignore[arg-type]
    loader.set_epoch = sampler.set_epoch  # which Trainer calls where it finds it
    return loader


def silenced(batch: Batch) -> Batch:
    """The same forward with nothing in it that is learnt, not even prompts.

    For a process that has no rows in a forward, while the others wait for it.
    """
    quiet = {"labels": torch.full_like(batch["labels"], IGNORED)}
    if "weights" in batch:
        quiet["weights"] = torch.zeros_like(batch["weights"])
    return {**batch, **quiet}


def require_packable(model: Any) -> None:
    """Refuse packs for a model that is not known to keep their segments apart.

    Raises:
        RecipeError: Rows would learn from the rows before them in their pack.
    """
    if (kind := model.config.model_type) not in PACKABLE:
        raise RecipeError(
            "encode.packing",
            "the rows of a pack would see each other in this model",
            got=kind,
            do=f"Use packing: none (schedule.batch_tokens pads little). Known: "
            f"{', '.join(PACKABLE)}.",
        )


def _targets(
    ids_BT: NDArray[np.int64], weights_BT: NDArray[np.float32], *, weighted: bool
) -> Batch:
    """Logits only where the loss looks: each row's own places, so many for all as the most has.

    A row with fewer makes those of its first token, too, and nobody looks at them.
    """
    rows, columns = np.nonzero(weights_BT[:, 1:])
    counts = np.bincount(rows, minlength=len(ids_BT))
    rank = np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
    shape = len(ids_BT), max(1, int(counts.max()))
    places_BK, labels_BK = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
    places_BK[rows, rank] = columns
    labels_BK[rows, rank] = ids_BT[rows, columns + 1]
    targets: Batch = {
        "logits_to_keep": torch.from_numpy(places_BK),
        "labels": torch.from_numpy(labels_BK),
    }
    if weighted:
        weights_BK = np.zeros(shape, np.float32)
        weights_BK[rows, rank] = weights_BT[rows, columns + 1]
        targets["weights"] = torch.from_numpy(weights_BK)
    return targets
