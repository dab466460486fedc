from __future__ import annotations

import numpy as np
import pytest

import toy_model as toy
from glmops.recipe import Schedule
from glmops.train.order import Plan, Sampler, num_steps

LENGTHS = np.random.default_rng(5).integers(3, 200, 103).astype(np.int32)


def _plan(
    some: np.ndarray, *, rows: int | None = None, tokens: int | None = None, **how: int
) -> Plan:
    return Plan(some, how.pop("seed", 1), rows, tokens, **how)


def _steps(plan: Plan, epoch: int) -> list[list[int]]:
    """The rows of each step, over all its forwards and processes, in order."""
    forwards, size = [np.concatenate(each) for each in plan.epoch(epoch)], plan.accumulation
    starts = range(0, len(forwards), size)
    return [np.sort(np.concatenate(forwards[i : i + size])).tolist() for i in starts]


@pytest.mark.parametrize("by_tokens", [True, False])
@pytest.mark.parametrize("case", range(60))
def test_every_row_is_in_an_epoch_once_and_epochs_are_equally_long(
    case: int, by_tokens: bool
) -> None:
    draw = np.random.default_rng(case)
    longest = int(draw.choice([1, 3, 40, 5000]))
    some = draw.integers(1, longest + 1, int(draw.integers(1, 120))).astype(np.int32)
    rows, tokens = int(draw.integers(1, 9)), int(draw.choice([1, 60, 900, 20_000]))
    processes, epoch = int(draw.integers(1, 6)), int(draw.integers(0, 4))
    size = {"tokens": tokens} if by_tokens else {"rows": rows}
    plan = _plan(some, **size, processes=processes)
    forwards = list(plan.epoch(epoch))
    assert len(forwards) == plan.forwards()
    seen = np.concatenate([batch for forward in forwards for batch in forward])
    assert sorted(seen.tolist()) == list(range(len(some)))
    for forward in forwards:
        assert len(forward) == processes
        if by_tokens:
            assert all(len(b) <= 1 or len(b) * some[b].max() <= tokens for b in forward)
        else:
            assert all(len(batch) <= rows for batch in forward)
    # Who waits for whom: only at the end may a process have nothing to do.
    assert all(len(batch) for forward in forwards[:-1] for batch in forward)


@pytest.mark.parametrize("tokens", [400, 1000])
def test_rows_of_like_length_share_a_batch(tokens: int) -> None:
    some = np.random.default_rng(2).integers(8, 80, 4000).astype(np.int32)
    by_tokens = [b for forward in _plan(some, tokens=tokens).epoch(0) for b in forward]
    padded = sum(len(b) * int(some[b].max()) for b in by_tokens)
    # A row is padded to its grade, a 16th at most; a few batches lie across two grades.
    assert padded <= int(some.sum()) * (1 + 1 / 16 + 0.03)
    full = sum(len(b) * int(some[b].max()) > 0.75 * tokens for b in by_tokens)
    assert full >= 0.9 * len(by_tokens)


@pytest.mark.parametrize("size", [{"rows": 8}, {"tokens": 600}])
def test_a_step_is_the_same_rows_on_any_number_of_processes(size: dict[str, int]) -> None:
    plans = [
        _plan(LENGTHS, **size, processes=processes, accumulation=4 // processes)
        for processes in (1, 2, 4)
    ]
    assert len({plan.steps() for plan in plans}) == 1
    for epoch in range(3):
        one, two, four = (_steps(plan, epoch) for plan in plans)
        assert one == two == four
        assert len(one) == plans[0].steps()


def test_rows_for_accumulation_are_rows_for_processes() -> None:
    # 16 rows a step, four ways to have them.
    ways = [(16, 1, 1), (8, 2, 1), (4, 2, 2), (2, 4, 2)]
    made = [_steps(_plan(LENGTHS, rows=r, processes=p, accumulation=a), 0) for r, p, a in ways]
    assert all(steps == made[0] for steps in made)


@pytest.mark.parametrize("size", [{"rows": 8}, {"tokens": 600}])
def test_the_order_is_of_the_seed_and_the_epoch(size: dict[str, int]) -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return _steps(_plan(LENGTHS, **size, seed=seed), epoch)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_rows_of_like_length_meet_others_in_another_epoch() -> None:
    same = np.full(200, 20, np.int32)
    first, second = ({tuple(step) for step in _steps(_plan(same, tokens=200), n)} for n in (0, 1))
    assert len(first & second) == 0


@pytest.mark.parametrize("size", [{"rows": 8}, {"tokens": 600}])
def test_the_shares_of_all_processes_are_the_plan(size: dict[str, int]) -> None:
    plan = _plan(LENGTHS, **size, processes=3)
    samplers = [Sampler(plan, process) for process in range(3)]
    for epoch in (0, 4):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        shares = [list(sampler) for sampler in samplers]
        assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
        expected = [[batch.tolist() for batch in forward] for forward in plan.epoch(epoch)]
        assert [list(forward) for forward in zip(*shares, strict=True)] == expected


@pytest.mark.parametrize(
    ("rows", "changes", "expected"),
    # Batches of 8: 20 rows are 3 forwards an epoch, 16 are 2; a part of an epoch is rounded up.
    [
        (20, {"epochs": 1}, 3),
        (20, {"epochs": 4}, 12),
        (16, {"epochs": 2}, 4),
        (20, {"epochs": 0.2}, 1),
        (20, {"epochs": 0.5}, 2),
        (1, {"epochs": 1}, 1),
        (20, {"epochs": 2, "accumulation": 2}, 4),  # 2 + 1 forwards, twice
        (20, {"epochs": None, "max_steps": 7}, 7),
    ],
)
def test_steps_are_epochs_times_batches(
    rows: int, changes: dict[str, float], expected: int
) -> None:
    schedule = Schedule.model_validate(toy.schedule(**changes))
    plan = _plan(np.full(rows, 5, np.int32), rows=8, accumulation=schedule.accumulation)
    assert num_steps(plan, schedule) == expected
