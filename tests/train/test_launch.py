"""Several processes train what one does. Each start of two costs about ten seconds."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import toy_model as toy
from glmops.train.bases import make_base
from glmops.train.candidate import Data, read_encoded, train_candidate
from glmops.train.launch import train_as_launched
from glmops.train.points import Point
from train.launching import forget_after, largest_difference, place, settings, weights

# Sums of float32 in another order, and AdamW, which divides small gradients by their own size.
LOSSES = 1e-5
WEIGHTS = 5e-4


@dataclass(frozen=True)
class Run:
    root: Path
    points: list[Point]
    weights: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def alone(encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One process in this one: the origin of every expectation below."""
    root = tmp_path_factory.mktemp("alone")
    points, _ = train_candidate(read_encoded(encoded), settings({}), place(root))
    return Run(root, points, weights(root))


@pytest.fixture(scope="module")
def together(encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _launched(encoded, tmp_path_factory.mktemp("ddp"), {"processes": 2})


@pytest.fixture(scope="module")
def split(encoded: Path, together: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """ZeRO-3, which goes on after the first step of the run above."""
    root = _copy(together, tmp_path_factory.mktemp("zero-3"), step=1)
    return _launched(encoded, root, {"processes": 2, "engine": "deepspeed", "zero": 3})


def _launched(encoded: Path, root: Path, launch: dict[str, object]) -> Run:
    trained = train_as_launched(encoded, settings(launch), place(root))
    assert trained is not None
    points, numbers = trained
    assert len(points) == numbers["lora"]["steps"]
    return Run(root, points, weights(root))


def _copy(run: Run, root: Path, *, step: int) -> Path:
    shutil.copytree(run.root / "scratch", root / "scratch")
    forget_after(root, step)
    return root


def _require_equal(run: Run, alone: Run) -> None:
    for field in ("loss", "dev_loss", "learning_rate"):
        expected = [getattr(point, field) for point in alone.points]
        assert [getattr(point, field) for point in run.points] == pytest.approx(
            expected, rel=LOSSES
        )
    assert largest_difference(run.weights, alone.weights) < WEIGHTS


def test_training_moves_weights_much_further_than_the_tolerance(alone: Run, data: Data) -> None:
    made = make_base(toy.base_settings(), data.tokenizer, data.contract, seed=1)
    moved = largest_difference(alone.weights, {**alone.weights, **dict(made.named_parameters())})
    assert moved > 20 * WEIGHTS


def test_two_processes_learn_what_one_does(alone: Run, together: Run) -> None:
    _require_equal(together, alone)


def test_a_run_goes_on_split_by_zero_3(alone: Run, split: Run) -> None:
    _require_equal(split, alone)


def test_a_run_of_two_goes_on_as_one(alone: Run, split: Run, encoded: Path, tmp_path: Path) -> None:
    root = _copy(split, tmp_path / "one", step=4)
    points, _ = train_candidate(read_encoded(encoded), settings({}), place(root))
    _require_equal(Run(root, points, weights(root)), alone)


def test_a_run_goes_on_with_zero_2_and_its_optimiser_on_the_host(
    alone: Run, together: Run, encoded: Path, tmp_path: Path
) -> None:
    root = _copy(together, tmp_path / "zero-2", step=4)
    launch = {"processes": 2, "engine": "deepspeed", "zero": 2, "offload": True}
    _require_equal(_launched(encoded, root, launch), alone)
