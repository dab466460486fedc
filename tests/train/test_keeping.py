from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import toy_model as toy
import toy_runs
from glmops.recipe import Best, Train
from glmops.train.batches import collate_for
from glmops.train.candidate import Data, Place, train_candidate
from glmops.train.keeping import best_of, is_over
from glmops.train.loop import fit
from glmops.train.loss import measure
from glmops.train.points import Point


def _point(step: int, loss: float | None, exact: float | None = None) -> Point:
    return Point(step, "base", 0.0, 1.0, 0.1, loss, exact)


POINTS = [
    _point(1, 3.0, 0.1),
    _point(2, None),
    _point(3, 2.0, 0.5),
    _point(4, 2.0, 0.5),
    _point(5, 2.5, 0.7),
    _point(6, None),
]


def test_the_best_point_is_the_earliest_of_the_best_ones() -> None:
    best = best_of(POINTS, "dev-loss")
    assert best is POINTS[2]
    assert best_of(POINTS, "dev-exact") is POINTS[4]
    assert best_of([_point(1, None)], "dev-loss") is None
    assert best_of([_point(1, 1.0, 0.0), _point(2, 0.5, 0.0)], "dev-exact").step == 1


@pytest.mark.parametrize(
    ("metric", "patience", "over"),
    # After the best loss, at step 3, come two measurements; after the best share none.
    [("dev-loss", 2, True), ("dev-loss", 3, False), ("dev-exact", 1, False)],
)
def test_patience_counts_measurements_and_not_steps(metric: Any, patience: int, over: bool) -> None:
    best = Best(metric=metric, patience=patience)
    assert is_over(POINTS, best, 100) is over
    assert is_over(POINTS, best, 6)
    assert not is_over(POINTS, Best(metric=metric), 100)
    assert not is_over([], best, 100)


def _settings(**changes: Any) -> Train:
    base = toy.base_settings(schedule=None).model_dump()
    return toy.train_settings(**{"method": "scratch", "lora": None, "base": base, **changes})


# A rate at which the toy learns its rows by heart in a few epochs and forgets the dev rows.
HOT = {"epochs": 30, "batch_size": 8, "learning_rate": 0.03, "decay": "constant"}


def test_the_best_moments_weights_are_put_back(data: Data, tmp_path: Path) -> None:
    settings = _settings(best={"metric": "dev-loss"}, checkpoints={"every_steps": 7, "keep": 1})
    model = toy_runs.fresh_model()
    history = fit(model, toy_runs.phase(data, tmp_path, **HOT), settings)
    best = min(history, key=lambda point: point.dev_loss or 9e9)
    assert best.step < history[-1].step == 150  # 40 rows in batches of 8, thirty times
    measured = measure(model, data.dev, collate_for("glm", pad=0, packed=False))
    assert measured["loss"] == pytest.approx(best.dev_loss, abs=0)
    assert measured["exact"] == best.dev_exact


def test_patience_ends_a_run_and_going_on_does_not_begin_it_again(
    data: Data, tmp_path: Path
) -> None:
    best = {"metric": "dev-loss", "every_steps": 5, "patience": 3}
    settings = _settings(best=best, checkpoints={"every_steps": 5})
    model = toy_runs.fresh_model()
    history = fit(model, toy_runs.phase(data, tmp_path, **HOT), settings)
    measured = [point for point in history if point.dev_loss is not None]
    top = min(measured, key=lambda point: point.dev_loss or 9e9)
    assert history[-1].step == top.step + 15 < 150
    steps: list[int] = []
    again = toy_runs.fresh_model()
    phase = toy_runs.phase(data, tmp_path, **HOT)
    assert fit(again, phase, settings, on_step=lambda: steps.append(1)) == history
    assert len(steps) == history[-1].step
    for weight, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, other)


def test_the_numbers_tell_the_best_moment(data: Data, tmp_path: Path) -> None:
    settings = _settings(
        schedule=toy.schedule(**HOT),
        best={"metric": "dev-exact", "every_steps": 10, "patience": 2},
    )
    place = Place(tmp_path, tmp_path / "scratch", tmp_path / "model")
    history, numbers = train_candidate(data, settings, place)
    measured = [point for point in history if point.dev_exact is not None]
    top = max(measured, key=lambda point: (point.dev_exact or 0.0, -point.step))
    assert numbers["scratch"]["best"] == {"step": top.step, "value": top.dev_exact}
    assert numbers["scratch"]["exact"]["dev"] == top.dev_exact
