from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import toy_chatglm
import toy_model as toy
from glmops.encode.dataset import encode_dataset
from glmops.encode.packing import best_fit, fill_rate
from glmops.models.segments import restarting_positions, segment_numbers
from glmops.train.rows import read_rows

CAPACITY = 96


def _packs(lengths: list[int], capacity: int) -> list[list[int]]:
    packs = best_fit(np.array(lengths, dtype=np.int64), capacity)
    return [part.tolist() for part in np.split(packs.values, packs.lengths.cumsum()[:-1])]


def _naively(lengths: list[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing as the textbook has it: look through all packs for every row."""
    packs: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        rooms = [capacity - sum(lengths[each] for each in pack) for pack in packs]
        fitting = [(room, -place) for place, room in enumerate(rooms) if room >= lengths[row]]
        if fitting:
            packs[-min(fitting)[1]].append(row)
        else:
            packs.append([row])
    return packs


def _arrow(file: Path) -> dict[str, list[Any]]:
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_stream(source).read_all().to_pydict()


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The toy rows, packed and not: the packs' folder, the rows' folder, the packs' metrics."""
    root = tmp_path_factory.mktemp("packing")
    prepared = toy.write_prepared(root / "prepared")
    made = {}
    for name, packing in (("packed", "best-fit"), ("rows", "none")):
        pack_tokens = CAPACITY if packing == "best-fit" else None
        settings = toy.encode_settings(packing=packing, pack_tokens=pack_tokens)
        made[name] = encode_dataset(prepared, settings, root=root, folder=root / name).metrics
    return root / "packed", root / "rows", made["packed"]


@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_in_one_pack_and_as_many_packs_as_the_textbook_needs(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.randint(1, 40) for _ in range(draw.randint(1, 200))]
    packs = _packs(lengths, 40)
    assert sorted(row for pack in packs for row in pack) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in pack) <= 40 for pack in packs)
    assert len(packs) == len(_naively(lengths, 40))
    # Whatever is equal among packs and rows, they come in the order of the rows.
    assert packs == sorted(sorted(pack) for pack in packs)


def test_the_fullest_pack_that_still_has_room_is_taken() -> None:
    # 7 and 6 open packs with rooms of 3 and 4; best fit puts 3 beside 7 and 4 beside 6.
    assert _packs([3, 6, 4, 7], 10) == [[0, 3], [1, 2]]


def test_a_row_longer_than_a_pack_is_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match="11 tokens does not fit into 10"):
        _packs([3, 11], 10)


def test_the_fill_rate_is_the_share_of_places_with_a_token() -> None:
    assert fill_rate(np.array([7, 6, 4, 3]), 2, 10) == 1.0
    assert fill_rate(np.array([7, 6]), 2, 10) == 0.65


def test_packs_hold_the_rows_whole_with_their_borders_and_masks(encoded: Any) -> None:
    packed, rows, metrics = encoded
    for name in ("train", "base"):
        packs, alone = _arrow(packed / f"{name}.arrow"), _arrow(rows / f"{name}.arrow")
        assert list(packs) == ["ids", "segments", "input_ids", "loss_mask"]
        known = {
            row: (ids, mask) for row, ids, mask in zip(*(alone[key] for key in alone), strict=True)
        }
        for names, segments, ids, mask in zip(*packs.values(), strict=True):
            assert sum(segments) == len(ids) == len(mask) <= CAPACITY
            start = 0
            for row, length in zip(names, segments, strict=True):
                row_ids, row_mask = known.pop(row)
                assert ids[start : start + length] == row_ids
                # Nothing of its own stands before a segment's first token.
                assert mask[start : start + length] == [0, *row_mask[1:]]
                start += length
        assert known == {}
        lengths = [len(ids) for ids in alone["input_ids"]]
        num_packs = len(packs["ids"])
        share = round(sum(lengths) / (CAPACITY * num_packs), 6)
        assert metrics["packing"][name] == {"packs": num_packs, "fill": share}
    assert _arrow(packed / "dev.arrow") == _arrow(rows / "dev.arrow")


def test_packs_teach_the_tokens_that_their_rows_teach(encoded: Any) -> None:
    packed, rows, _ = encoded
    alone, shared = (read_rows(each / "train.arrow", 10_000) for each in (rows, packed))
    assert (alone.packed, shared.packed) == (False, True)
    assert shared.num_learnt == alone.num_learnt
    names = [shared.names(number) for number in range(len(shared))]
    assert sorted(itertools.chain(*names)) == sorted(alone[n].name for n in range(len(alone)))


def _summed_loss(logits_TV: Any, ids: list[int], mask: list[int]) -> float:
    labels = torch.tensor([token if m else -100 for token, m in zip(ids, mask, strict=True)])
    loss = torch.nn.functional.cross_entropy(
        logits_TV[:-1], labels[1:], ignore_index=-100, reduction="sum"
    )
    return float(loss)


def test_a_pack_costs_what_its_rows_cost_alone(encoded: Any) -> None:
    # functionary#265: 44.17 for a pack of rows whose separate losses sum to 44.14; 37.55 when
    # their tokens see each other.
    packed, rows, _ = encoded
    packs, alone = _arrow(packed / "train.arrow"), _arrow(rows / "train.arrow")
    model, ids, segments = toy.model(), packs["input_ids"][0], packs["segments"][0]
    assert len(segments) > 1
    with torch.no_grad():
        apart = 0.0
        for name in packs["ids"][0]:
            row = alone["id"].index(name)
            logits = model(torch.tensor([alone["input_ids"][row]])).logits[0]
            apart += _summed_loss(logits, alone["input_ids"][row], alone["loss_mask"][row])
        positions = torch.tensor([restarting_positions(segments, len(ids))])
        both = model(torch.tensor([ids]), position_ids=positions, use_cache=False).logits[0]
        mixed = model(torch.tensor([ids])).logits[0]
    mask = packs["loss_mask"][0]
    assert _summed_loss(both, ids, mask) == pytest.approx(apart, rel=1e-5)
    assert _summed_loss(mixed, ids, mask) != pytest.approx(apart, rel=1e-2)


def test_segment_numbers_keep_chatglm_rows_apart() -> None:
    model = toy_chatglm.random_model(0)
    gmask, sop, eop = (model.config.gmask_token_id, model.config.bos_token_id, 43)
    rows = [[5, 6, gmask, sop, 7, 8, eop], [9, gmask, sop, 10, eop], [11, 12, 13, gmask, sop, eop]]
    ids = [token for row in rows for token in row]
    numbers = segment_numbers([len(row) for row in rows], len(ids) + 2)
    with torch.no_grad():
        pack = model(torch.tensor([[*ids, 3, 3]]), attention_mask=torch.tensor([numbers])).logits[0]
        start = 0
        for row in rows:
            alone = model(torch.tensor([row])).logits[0]
            torch.testing.assert_close(pack[start : start + len(row)], alone, **toy_chatglm.SAME)
            start += len(row)


def test_numbers_and_positions_of_a_pack() -> None:
    assert segment_numbers([2, 3, 1], 8) == [1, 1, 2, 2, 2, 3, 0, 0]
    assert restarting_positions([2, 3, 1], 8) == [0, 1, 0, 1, 2, 0, 0, 0]
