"""The loss: cross entropy in float32, summed over learnt tokens, then divided by their number.

Summing first and dividing once makes every learnt token weigh the same, whatever row, forward or
process it is in; a mean of means would not. Axes: B rows, K places, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from glmops.train.batches import IGNORED, Batch, Collate
from glmops.train.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EVAL_TOKENS = 8192
"""Padded tokens of one forward without gradients."""
_EVAL_LOGITS = 2**26
"""Logits of one such forward. The vocabulary of ChatGLM-6B would otherwise make those of its dev
rows the peak of a whole run."""


def token_losses(
    logits_BKV: torch.Tensor, labels_BK: torch.Tensor, weights_BK: torch.Tensor | None = None
) -> torch.Tensor:
    """Nats [B, K], each times its weight; 0 where the label is IGNORED."""
    losses_N = cross_entropy(
        logits_BKV.flatten(0, 1).float(),
        labels_BK.flatten(),
        ignore_index=IGNORED,
        reduction="none",
    )
    losses_BK = losses_N.view_as(labels_BK)
    return losses_BK if weights_BK is None else losses_BK * weights_BK


def summed_loss(
    logits_BKV: torch.Tensor, labels_BK: torch.Tensor, weights_BK: torch.Tensor | None = None
) -> torch.Tensor:
    """Nats, a scalar: the sum over the labels that are not IGNORED, each times its weight."""
    return token_losses(logits_BKV, labels_BK, weights_BK).sum()


def num_learnt(batches: Sequence[Batch]) -> int:
    """Tokens that the loss is divided by: those of answers, which weigh 1, not those of prompts."""
    total = 0
    for batch in batches:
        learnt = batch["weights"] == 1 if "weights" in batch else batch["labels"] != IGNORED
        total += int(learnt.sum())
    return total


def prompt_weight(rows: Rows, prompt_loss: float) -> float:
    """The weight of one prompt token: all of them together weigh ``prompt_loss`` times what those
    of the answers do, of which there are fewer."""
    return prompt_loss * rows.num_learnt / rows.num_prompt if rows.num_prompt else 0.0


@torch.no_grad()
def measure(model: Any, rows: Rows, collate: Collate) -> dict[str, float]:
    """``loss``: mean nats per learnt token. ``exact``: the share of rows of which every learnt
    token is the most likely one, which is what greedy decoding would write. Packs count as rows.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    total, learnt, exact = 0.0, 0, 0
    places = np.array([rows[index].learnt.sum() for index in range(len(rows))], np.int32)
    for batch_rows in measured_together(rows.lengths, places, model.config.vocab_size):
        batch = collate([rows[index] for index in batch_rows])
        batch = {name: value.to(device) for name, value in batch.items()}
        labels_BK, _ = batch.pop("labels"), batch.pop("weights", None)
        logits_BKV = model(**batch, use_cache=False).logits
        total += summed_loss(logits_BKV, labels_BK).item()
        counted = labels_BK != IGNORED
        learnt += int(counted.sum())
        right = (logits_BKV.argmax(-1) == labels_BK) | ~counted
        exact += int(right.all(dim=1).sum())
    model.train(training)
    return {"loss": total / learnt, "exact": exact / len(rows)}


def measured_together(
    tokens: NDArray[np.int32], places: NDArray[np.int32], vocabulary: int
) -> list[NDArray[np.int64]]:
    """Row numbers in batches of like length, each of bounded tokens and logits.

    Args:
        tokens: Of each row, shape [rows].
        places: Whose logits are made, of each row.
    """
    order = tokens.argsort(kind="stable")
    batches, start, most = [], 0, 0
    for end, row in enumerate(order):
        count, most = end + 1 - start, max(most, int(places[row]))
        too_wide = count * int(tokens[row]) > _EVAL_TOKENS
        if end > start and (too_wide or count * most * vocabulary > _EVAL_LOGITS):
            batches.append(order[start:end])
            start, most = end, int(places[row])
    return [*batches, order[start:]]
