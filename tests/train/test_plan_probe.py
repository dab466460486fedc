from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import toy_model as toy
from glmops.cli import app
from glmops.encode.dataset import encode_dataset
from glmops.errors import GlmopsError, RecipeError
from glmops.recipe import Schedule
from glmops.train.order import plan_of
from glmops.train.plan import process
from glmops.train.plan.lengths import Lengths, of_rows, work_of
from glmops.train.plan.probe import STEPS, arranged, died, probe
from glmops.train.plan.shown import document, summary
from glmops.train.plan.whole import Data, Plan, machine_for, make_plan
from glmops.train.rows import read_rows
from project import ROOT
from toy_plan import lora, recipe

TOLERANCE = 0.15
"""What the project promises of its predictions."""


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> list[Plan]:
    """Of two toys: what is predicted for them, and what a process of their own then took."""
    root = tmp_path_factory.mktemp("plan")
    toy.write_prepared(root / "prepared")
    batch = toy.schedule(batch_size=32)
    prefix = {"length": 16, "projection": False}
    made = [
        recipe("chatglm", "chatglm", schedule=batch, **lora()),
        recipe(method="prefix", lora=None, prefix=prefix, schedule=batch, export="adapter"),
    ]
    found = []
    for number, each in enumerate(made):
        folder = root / str(number)
        encode_dataset(root / "prepared", each.encode, root=root, folder=folder)
        machine = machine_for(each.train, "cpu", None)
        found.append(make_plan(root, f"toy-{number}", each, Data(folder, None), machine))
    return found


def test_the_prediction_is_near_what_a_process_then_takes(plans: list[Plan]) -> None:
    for plan in plans:
        assert plan.probed is not None, plan.unprobed
        assert plan.memory.total == pytest.approx(plan.probed.peak, rel=TOLERANCE)
        assert plan.fits
        assert not plan.changes


def test_a_plan_tells_steps_time_and_disk(plans: list[Plan]) -> None:
    for plan in plans:
        told = document(plan)
        assert json.loads(json.dumps(told)) == told
        [phase] = told["phases"]
        assert phase["steps"] == 2  # ceil(40 rows / 32)
        assert phase["seconds_are"] == "measured"
        assert phase["seconds_per_step"] > 0
        assert told["memory"]["total"] == sum(told["memory"]["parts"].values())
        # Weights and moments of what is trained, in the two kept checkpoints and a new one.
        assert told["disk"]["parts"]["checkpoints"] == 3 * 12 * told["parameters"]["trained"]
        assert any("measured, in a few steps" in line for line in summary(plan))


def test_rows_are_put_where_the_order_makes_the_longest_forward_of_them() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(5, 90, 100).astype(np.int32)
    lengths = Lengths(tokens, tokens // 3, False, "100 encoded rows", 100)
    schedule = Schedule.model_validate(toy.schedule(batch_size=6))
    work = work_of(lengths, schedule, 9, 1)
    order = np.array(arranged(work, schedule, 9))
    plan = plan_of(np.ones(len(order), np.int32), schedule, 9)
    forwards = [tuple(order[rows].tolist()) for [rows] in plan.epoch(0)]
    assert forwards == [work.numbers] * STEPS + [work.typical] * STEPS


def test_what_the_stage_refuses_in_the_probe_is_raised_word_for_word(
    encoded: Path, tmp_path: Path
) -> None:
    targets = {"rank": 2, "alpha": 4, "dropout": 0.0, "targets": ["nowhere"]}
    settings = toy.train_settings(lora=targets, base=toy.base_settings(schedule=None).model_dump())
    rows = read_rows(encoded / "train.arrow", 1 << 31)
    work = work_of(of_rows(rows), settings.schedule, settings.seed, 1)
    with pytest.raises(RecipeError, match=r"no linear layer of this name, got 'nowhere'"):
        probe(encoded, tmp_path, settings, {"lora": work})


def test_the_process_of_a_deepspeed_recipe_holds_deepspeed_too(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    launch = {"processes": 2, "engine": "deepspeed", "zero": 2}
    alone, engine = (
        process.start(toy.train_settings(method="full", lora=None, **each), tmp_path)
        for each in ({}, {"launch": launch})
    )
    # Its modules alone are some 150 MB of objects and code.
    assert process.finish(engine) > process.finish(alone) + 50_000_000


def test_a_probe_that_dies_is_reported_as_such() -> None:
    words = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    error = died(done)
    assert isinstance(error, GlmopsError)
    assert error.exit_code == 1
    assert "its process died, most likely for want of memory, got 'signal 9'" in str(error)


def test_json_is_one_document() -> None:
    done = CliRunner().invoke(app, ["plan", "demo", "--gpu", "24GB", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["fits"] is True
    assert told["measured"] is None
    assert told["not_measured"] == "it is planned for a device that is not here"
    assert told["device"] == {"kind": "cuda", "memory": 24 * 2**30}


def test_an_unknown_recipe_or_size_is_refused() -> None:
    assert ROOT.is_dir()
    for words in (["plan", "no-such"], ["plan", "demo", "--gpu", "big"]):
        with pytest.raises(RecipeError):
            CliRunner().invoke(app, words, catch_exceptions=False)
