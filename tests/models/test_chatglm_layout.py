"""Masks and positions, against the original functions' output and against single rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import toy_chatglm as toy
from glmops.errors import InputError
from glmops.models.chatglm.configuration import ChatGLMConfig
from glmops.models.chatglm.layout import lay_out, packed, visible

CONFIG = ChatGLMConfig(**toy.settings())
MASK, GMASK, SOP = CONFIG.mask_token_id, CONFIG.gmask_token_id, CONFIG.bos_token_id
BUILT_BY_MODEL = ["gmask_end", "mask_mid", "both", "sop_first_index0", "padded_ids", "no_target"]
# Where the padding stands on the left, as the original's tokenizer puts it.
BUILT_BY_TOKENIZER = ["tok_pad", "tok_pad_mixed"]


def reference_config(**changes: Any) -> ChatGLMConfig:
    """The ids of the reference checkpoint (its config.json); sizes do not matter here."""
    ids = {"mask_token_id": 400, "gmask_token_id": 401, "bos_token_id": 404, "eos_token_id": 405}
    return ChatGLMConfig(**ids, **changes)


def built(ids: Any, segments: Any, config: ChatGLMConfig, **choice: Any) -> SimpleNamespace:
    ids_BT = torch.tensor(ids)
    segments_BT = None if segments is None else torch.tensor(segments)
    layout = lay_out(ids_BT, segments_BT, config, **choice)
    return SimpleNamespace(
        mask=visible(layout, ids_BT.shape[1])[:, 0], positions=layout.positions, layout=layout
    )


@pytest.mark.parametrize("case", BUILT_BY_MODEL)
def test_masks_and_positions_equal_those_of_the_original_model(case, shared) -> None:
    data = load_file(shared(f"{toy.REFERENCE}/masks_positions.safetensors"))
    ids_BT = data[f"{case}.input_ids"]
    for segments_BT in (None, torch.ones_like(ids_BT)):
        layout = lay_out(ids_BT, segments_BT, reference_config())
        assert torch.equal(~visible(layout, ids_BT.shape[1]), data[f"{case}.attention_mask"])
        assert torch.equal(layout.positions, data[f"{case}.position_ids"])
    flat = lay_out(ids_BT, None, reference_config(position_encoding_2d=False))
    assert torch.equal(flat.positions, data[f"{case}.position_ids_1d"])


@pytest.mark.parametrize("case", BUILT_BY_TOKENIZER)
def test_padded_rows_equal_those_of_the_original_tokenizer(case, shared) -> None:
    """But for padding queries, which there see nothing and here themselves."""
    data = load_file(shared(f"{toy.REFERENCE}/masks_positions.safetensors"))
    blocked_BTT = data[f"{case}.attention_mask"][:, 0]
    padding_BT = blocked_BTT.all(-1)
    assert padding_BT.any()
    ids_BT = data[f"{case}.input_ids"]
    for choice in (True, torch.ones(len(ids_BT), dtype=torch.bool)):
        layout = lay_out(ids_BT, (~padding_BT).long(), reference_config(), mask_token_first=choice)
        mask_BTT = visible(layout, ids_BT.shape[1])[:, 0]
        assert torch.equal(mask_BTT[~padding_BT], ~blocked_BTT[~padding_BT])
        assert torch.equal(layout.positions, data[f"{case}.position_ids"])
        assert torch.equal(mask_BTT[padding_BT], torch.eye(ids_BT.shape[1]).bool()[_at(padding_BT)])


def test_the_config_says_which_mask_token_comes_first_and_a_row_may_differ() -> None:
    row = [5, MASK, 6, GMASK, SOP, 7]
    by_gmask, by_mask = [0, 1, 2, 3, 3, 3], [0, 1, 2, 3, 1, 1]  # the index of each, by hand
    assert built([row], None, CONFIG).positions[0, 0].tolist() == by_gmask
    other = ChatGLMConfig(**toy.settings(mask_token_first=True))
    assert built([row], None, other).positions[0, 0].tolist() == by_mask
    assert built([row], None, other, mask_token_first=False).positions[0, 0].tolist() == by_gmask
    rows = built([row, row], None, CONFIG, mask_token_first=torch.tensor([True, False]))
    assert rows.positions[:, 0].tolist() == [by_mask, by_gmask]


@pytest.mark.parametrize("numbers", [(1, 2, 3), (7, 7000, 9)], ids=["counted", "any"])
@pytest.mark.parametrize("two_dimensional", [True, False])
def test_packed_segments_are_laid_out_like_rows_of_their_own(numbers, two_dimensional) -> None:
    config = ChatGLMConfig(**toy.settings(position_encoding_2d=two_dimensional))
    rows = [[5, GMASK, SOP, 6, 7], [8, MASK, 9, 10, SOP], [11, 12, MASK, GMASK, 13, SOP, 14]]
    ids = [3, 3, *rows[0], *rows[1], *rows[2], 3]
    segments = [0, 0]
    for number, row in zip(numbers, rows, strict=True):
        segments += [number] * len(row)
    both = built([ids], [[*segments, 0]], config)
    wanted = torch.eye(len(ids)).bool()  # padding sees itself
    begin = 2
    for row in rows:
        alone, place = built([row], None, config), slice(begin, begin + len(row))
        wanted[place, place] = alone.mask[0]
        assert torch.equal(both.positions[0, ..., place], alone.positions[0])
        begin += len(row)
    assert torch.equal(both.mask[0], wanted)
    assert not both.positions[0, ..., [0, 1, -1]].any()
    mask, positions = packed(torch.tensor([ids]), torch.tensor([[*segments, 0]]), config)
    assert torch.equal(mask[0, 0], wanted)
    assert torch.equal(positions, both.positions)


def test_a_row_with_a_hole_is_laid_out_like_the_row_without_it() -> None:
    whole, holed = [5, 6, GMASK, SOP, 7], [5, SOP, 6, GMASK, MASK, SOP, 7]
    kept = [0, 2, 3, 5, 6]
    one, two = built([whole], None, CONFIG), built([holed], [[1, 0, 1, 1, 0, 1, 1]], CONFIG)
    assert torch.equal(two.positions[0][:, kept], one.positions[0])
    assert torch.equal(two.mask[0][kept][:, kept], one.mask[0])
    assert not two.mask[0][kept][:, [1, 4]].any()


def test_the_last_queries_of_a_mask_are_the_end_of_the_whole_mask() -> None:
    rows = [toy.prompt(SimpleNamespace(config=CONFIG), 5, n, seed=n) for n in (2, 4)]
    ids_BT, real_BT = toy.left_padded(rows, 3)
    layout = lay_out(ids_BT, real_BT, CONFIG)
    whole = visible(layout, ids_BT.shape[1])
    assert torch.equal(visible(layout, 3), whole[:, :, -3:])
    wide = visible(layout, 3, ids_BT.shape[1] + 4)
    assert torch.equal(wide[..., :-4], whole[:, :, -3:])
    assert not wide[..., -4:].any()


@pytest.mark.parametrize(
    ("ids", "segments", "says"),
    [
        ([[5, GMASK, SOP], [5, 6, SOP]], None, "input_ids row 1: neither [gMASK] (id 41) nor"),
        ([[5, GMASK, SOP], [5, GMASK, 6]], None, "input_ids row 1: no <sop> (id 42)"),
        ([[GMASK, SOP, 5]], [[0, 0, 1]], "input_ids row 0: no <sop>"),
        ([[GMASK, SOP, 5, SOP]], [[1, 1, 2, 2]], "input_ids row 0, segment 2: neither [gMASK]"),
        ([[5, GMASK, SOP]], [[-1, 1, 1]], "input_ids row 0: a negative number in attention_mask"),
        ([[5, GMASK, SOP]], [[1, 1]], "attention_mask: its shape is not that of input_ids, (1, 3)"),
        ([[5, GMASK, SOP]], [[0.0, 1.0, 1.0]], "attention_mask: two-dimensional but not of int"),
    ],
)
def test_a_row_that_cannot_be_laid_out_is_refused_by_number(ids, segments, says) -> None:
    with pytest.raises(InputError) as caught:
        built(ids, segments, CONFIG)
    assert says in str(caught.value)


def test_a_row_of_nothing_but_padding_is_let_through() -> None:
    both = built([[5, GMASK, SOP], [3, 3, 3]], [[1, 1, 1], [0, 0, 0]], CONFIG)
    assert torch.equal(both.mask[1], torch.eye(3).bool())
    assert not both.positions[1].any()


def _at(flags_BT: torch.Tensor) -> torch.Tensor:
    return flags_BT.nonzero()[:, 1]
