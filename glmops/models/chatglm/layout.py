"""Who may see whom in a ChatGLM-6B row, and the positions of its tokens.

Everything before a row's first ``<sop>`` is its context and is seen by the whole row; from
``<sop>`` on a token sees what stands before it. Context tokens count their positions; all later
ones stand where ``[gMASK]`` (or ``[MASK]``) stands and count their block position.

Axes: B rows, T tokens of a row, Q the tokens that ask (the last ones of T).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from glmops.errors import InputError
from glmops.models.chatglm.configuration import ChatGLMConfig


class Layout(NamedTuple):
    """What the ids of a batch say about masks and positions.

    Attributes:
        segments_BT: 0 on padding; equal numbers see each other. None: each row is one segment.
        context_BT: True on the tokens before the first ``<sop>`` of their segment.
        positions: [B, 2, T] position and block position; [B, T] where they are one-dimensional.
            0 on padding.
    """

    segments_BT: Tensor | None
    context_BT: Tensor
    positions: Tensor


def lay_out(
    ids_BT: Tensor,
    segments_BT: Tensor | None,
    config: ChatGLMConfig,
    *,
    mask_token_first: bool | Tensor | None = None,
    check: bool = True,
) -> Layout:
    """Contexts and positions of whole rows, each segment as if it stood alone.

    Args:
        segments_BT: 0 = padding; 1, or 1, 2, 3, … where several rows are packed into one. Without
            it every token is real, as in the original model, which takes left padding for context.
        mask_token_first: ``[MASK]`` before ``[gMASK]``, for all rows or as a bool per row; the
            config decides where it is None.
        check: False skips the look for rows that lack a special token, which waits for the GPU.
    Raises:
        InputError: A segment lacks ``<sop>``, or both ``[gMASK]`` and ``[MASK]``.
    """
    width = ids_BT.shape[1]
    index_BT = torch.arange(width, device=ids_BT.device).expand_as(ids_BT)
    if segments_BT is None:
        real_BT, slots_BT, ranks_BT = None, torch.zeros_like(index_BT), index_BT
    else:
        segments_BT = _checked_segments(segments_BT, ids_BT)
        real_BT = segments_BT > 0
        slots_BT, ranks_BT = _slots_and_ranks(segments_BT, index_BT)

    def first(token: int | None) -> Tensor:
        """Index of the first such token in each token's own segment; ``width`` where none is."""
        elsewhere_BT = ids_BT.ne(-1 if token is None else token)
        if real_BT is not None:
            elsewhere_BT = elsewhere_BT | ~real_BT
        index_or_none_BT = index_BT.masked_fill(elsewhere_BT, width)
        if real_BT is None:
            return index_or_none_BT.amin(1, keepdim=True).expand_as(ids_BT)
        by_slot = torch.full_like(index_BT, width).scatter_reduce(
            1, slots_BT, index_or_none_BT, "amin"
        )
        return by_slot.gather(1, slots_BT)

    start_BT, gmask_BT, mask_BT = (
        first(token) for token in (config.bos_token_id, config.gmask_token_id, config.mask_token_id)
    )
    by_mask_BT = _follows_mask(gmask_BT, mask_BT, width, _choice(mask_token_first, config))
    target_BT = torch.where(by_mask_BT, mask_BT, gmask_BT)
    # A tensor has no truth value on the meta device, and asking for it breaks a compiled graph.
    if check and not ids_BT.is_meta and not torch.compiler.is_compiling():
        _require_special_tokens(start_BT, target_BT, real_BT, segments_BT, width, config)

    context_BT = index_BT < start_BT
    if real_BT is not None:
        context_BT = context_BT & real_BT
    target_rank_BT = ranks_BT.gather(1, target_BT.clamp(max=width - 1))
    if config.position_encoding_2d:
        start_rank_BT = ranks_BT.gather(1, start_BT.clamp(max=width - 1))
        rows = (
            torch.where(context_BT, ranks_BT, target_rank_BT),
            torch.where(context_BT, 0, ranks_BT - start_rank_BT + 1),
        )
        positions = torch.stack(rows, dim=1)
    else:
        # One-dimensional positions go on counting after [gMASK]: it stands for a text at the end.
        positions = torch.where(~context_BT & by_mask_BT, target_rank_BT, ranks_BT)
    if real_BT is not None:
        outside = ~real_BT[:, None] if config.position_encoding_2d else ~real_BT
        positions = positions.masked_fill(outside, 0)
    return Layout(segments_BT, context_BT, positions)


def visible(layout: Layout, queries: int, width: int | None = None) -> Tensor:
    """mask_B1QT, True = may attend, for the last ``queries`` tokens of each row.

    A padding token sees itself, so that no softmax is over nothing; nobody else sees it.

    Args:
        width: Columns wanted; those beyond the row (free places of a static cache) are closed.
    """
    context_BT, segments_BT = layout.context_BT, layout.segments_BT
    index_T = torch.arange(context_BT.shape[1], device=context_BT.device)
    asking_Q1 = index_T[-queries:, None]
    mask_BQT = context_BT[:, None, :] | (index_T <= asking_Q1)
    if segments_BT is not None:
        together_BQT = segments_BT[:, -queries:, None] == segments_BT[:, None, :]
        mask_BQT &= together_BQT & (segments_BT > 0)[:, None, :]
        mask_BQT |= index_T == asking_Q1
    if width is not None and width > index_T.shape[0]:
        mask_BQT = torch.nn.functional.pad(mask_BQT, (0, width - index_T.shape[0]))
    return mask_BQT[:, None]


def packed(
    ids_BT: Tensor,
    segments_BT: Tensor,
    config: ChatGLMConfig,
    *,
    mask_token_first: bool | Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """mask_B1TT (True = may attend) and positions of packed rows: the model's ``attention_mask``
    and ``position_ids``, for a caller that wants them ahead of the forward pass."""
    layout = lay_out(ids_BT, segments_BT, config, mask_token_first=mask_token_first)
    return visible(layout, ids_BT.shape[1]), layout.positions


def _checked_segments(segments_BT: Tensor, ids_BT: Tensor) -> Tensor:
    if segments_BT.shape != ids_BT.shape:
        raise InputError(
            "attention_mask",
            f"its shape is not that of input_ids, {tuple(ids_BT.shape)}",
            got=tuple(segments_BT.shape),
            do="Give one number per token: 0 for padding, 1 (or a segment's number) otherwise.",
        )
    if segments_BT.is_floating_point():
        raise InputError(
            "attention_mask",
            "two-dimensional but not of integers or booleans",
            got=segments_BT.dtype,
            do="Give one number per token: 0 for padding, 1 (or a segment's number) otherwise.",
        )
    return segments_BT.to(device=ids_BT.device, dtype=torch.long)


def _slots_and_ranks(segments_BT: Tensor, index_BT: Tensor) -> tuple[Tensor, Tensor]:
    """A small number per segment, equal on its tokens, and each token's place in its segment.

    Sorting stands in for a loop over segments, and keeps the work independent of how large the
    segment numbers are.
    """
    sorted_BT, order_BT = torch.sort(segments_BT, dim=1, stable=True)
    begins_BT = torch.zeros_like(sorted_BT, dtype=torch.bool)
    begins_BT[:, 1:] = sorted_BT[:, 1:] != sorted_BT[:, :-1]
    begin_index_BT = index_BT.masked_fill(~begins_BT, 0).cummax(1).values
    slots_BT = torch.empty_like(index_BT).scatter_(1, order_BT, begins_BT.long().cumsum(1))
    ranks_BT = torch.empty_like(index_BT).scatter_(1, order_BT, index_BT - begin_index_BT)
    return slots_BT, ranks_BT


def _choice(mask_token_first: bool | Tensor | None, config: ChatGLMConfig) -> bool | Tensor:
    if mask_token_first is None:
        return config.mask_token_first
    if isinstance(mask_token_first, Tensor):
        return mask_token_first.reshape(-1, 1)
    return mask_token_first


def _follows_mask(
    gmask_BT: Tensor, mask_BT: Tensor, width: int, mask_first: bool | Tensor
) -> Tensor:
    """True where a token's position follows ``[MASK]`` rather than ``[gMASK]``."""
    without_gmask_BT, with_mask_BT = gmask_BT == width, mask_BT < width
    if isinstance(mask_first, Tensor):
        return torch.where(mask_first.to(mask_BT.device), with_mask_BT, without_gmask_BT)
    return with_mask_BT if mask_first else without_gmask_BT


def _require_special_tokens(
    start_BT: Tensor,
    target_BT: Tensor,
    real_BT: Tensor | None,
    segments_BT: Tensor | None,
    width: int,
    config: ChatGLMConfig,
) -> None:
    lacking_BT = (start_BT == width) | (target_BT == width)
    if real_BT is not None and segments_BT is not None:
        lacking_BT = (lacking_BT & real_BT) | (segments_BT < 0)
    if not bool(lacking_BT.any()):
        return
    row, place = (int(number) for number in lacking_BT.nonzero()[0])
    where = f"input_ids row {row}"
    if segments_BT is not None and int(segments_BT.max()) > 1:
        where += f", segment {int(segments_BT[row, place])}"
    if segments_BT is not None and int(segments_BT[row, place]) < 0:
        what, do = "a negative number in attention_mask", "Use 0 for padding, 1, 2, … otherwise."
    elif int(start_BT[row, place]) == width:
        what = f"no <sop> (id {config.bos_token_id}) among its tokens"
        do = "End the prompt with [gMASK] <sop>, as the tokenizer does with its special tokens."
    else:
        what = (
            f"neither [gMASK] (id {config.gmask_token_id}) nor [MASK] (id {config.mask_token_id}) "
            "among its tokens"
        )
        do = "End the prompt with [gMASK] <sop>, as the tokenizer does with its special tokens."
    raise InputError(where, what, do=do)
