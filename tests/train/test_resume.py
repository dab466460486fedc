from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import toy_model as toy
import toy_runs
from glmops.recipe import Train
from glmops.storage import read_json

STEPS = 20  # 40 rows: two epochs of five steps (2 forwards of 4 rows), of base and LoRA


@pytest.fixture(scope="module")
def straight(encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of a run that nobody interrupts."""
    place = tmp_path_factory.mktemp("straight")
    assert _until_end(encoded, place, toy_runs.killable_settings()) == STEPS
    return toy_runs.result(place)


def _until_end(encoded: Path, place: Path, settings: Train) -> int:
    child, steps = toy_runs.start(encoded, place, settings)
    done = _count(steps, lambda done: False)
    child.join()
    assert child.exitcode == 0
    return done


def _count(steps: Any, enough: Callable[[int], bool]) -> int:
    """Steps until there are enough of them, or the process has ended."""
    done = 0
    try:
        while not enough(done):
            if steps.poll(0.001):
                steps.recv()
                done += 1
    except EOFError:
        pass
    return done


def _said(place: Path) -> list[str]:
    lines = (place / "scratch" / "live.jsonl").read_text("utf-8").splitlines()
    return [line["said"] for line in map(json.loads, lines) if "said" in line]


def test_killed_at_any_moment_a_run_ends_with_the_same_bytes(
    encoded: Path, tmp_path: Path, straight: Any
) -> None:
    dice, kills = random.Random(1), 0
    while True:
        child, steps = toy_runs.start(encoded, tmp_path, toy_runs.killable_settings())
        enough = 3 * kills + dice.randint(1, 6)
        _count(steps, lambda done, enough=enough: done >= enough)
        child.join(dice.random() * 0.03)
        child.kill()
        child.join()
        if child.exitcode == 0:
            break
        kills += 1
    assert kills >= 4
    assert toy_runs.result(tmp_path) == straight


def _holds(folder: Path, start: str) -> bool:
    """Whether a checkpoint of this kind is there now. Unlike ``Path.glob``, ``os.walk`` bears that
    folders go while it looks."""
    return any(name.startswith(start) for _, names, _ in os.walk(folder) for name in names)


def test_killed_while_it_saves_a_run_ends_with_the_same_bytes(
    encoded: Path, tmp_path: Path, straight: Any
) -> None:
    folder, kills = tmp_path / "scratch" / "checkpoints", 0
    for start in (".step-", ".best-", ".step-", ".gone-"):
        child, steps = toy_runs.start(encoded, tmp_path, toy_runs.killable_settings())
        _count(steps, lambda done, start=start: _holds(folder, start))
        child.kill()
        child.join()
        kills += child.exitcode == -signal.SIGKILL
    assert kills >= 3
    _until_end(encoded, tmp_path, toy_runs.killable_settings())
    assert toy_runs.result(tmp_path) == straight


def test_a_signal_ends_a_run_after_its_step_and_saves_it(
    encoded: Path, tmp_path: Path, straight: Any
) -> None:
    settings = toy_runs.killable_settings(checkpoints={"every_steps": 1000, "keep": 2})
    for number, at in ((signal.SIGTERM, 3), (signal.SIGINT, 14)):
        child, steps = toy_runs.start(encoded, tmp_path, settings)
        _count(steps, lambda done, at=at: done >= at)
        toy_runs.signal_to(child, number)
        child.join()
        assert child.exitcode == 130
        [last] = (tmp_path / "scratch" / "checkpoints").glob("*/step-*")
        step = read_json(last / "moment.json")["step"] + (10 if last.parent.name == "lora" else 0)
        assert at <= step <= at + 2
        assert "stopped after step" in _said(tmp_path)[-1]
    _until_end(encoded, tmp_path, settings)
    assert "train lora: going on after step" in _said(tmp_path)[-1]
    files, record = toy_runs.result(tmp_path)
    assert (files["model.safetensors"], record) == (straight[0]["model.safetensors"], straight[1])


def test_a_finished_base_is_not_trained_again(encoded: Path, tmp_path: Path, straight: Any) -> None:
    child, steps = toy_runs.start(encoded, tmp_path, toy_runs.killable_settings())
    _count(steps, lambda done: done > 10)
    child.kill()
    child.join()
    made = (tmp_path / "scratch" / "base" / "model.safetensors").stat().st_mtime_ns
    _until_end(encoded, tmp_path, toy_runs.killable_settings())
    assert (tmp_path / "scratch" / "base" / "model.safetensors").stat().st_mtime_ns == made
    assert toy_runs.result(tmp_path) == straight


def test_another_method_goes_on_from_the_same_base_and_another_seed_does_not(
    encoded: Path, tmp_path: Path
) -> None:
    schedule = toy.schedule()
    _until_end(encoded, tmp_path, toy_runs.killable_settings(schedule=schedule))
    base = tmp_path / "scratch" / "base" / "model.safetensors"
    made = base.stat().st_mtime_ns
    other = toy_runs.killable_settings(method="full", lora=None, schedule=schedule)
    _until_end(encoded, tmp_path, other)
    assert base.stat().st_mtime_ns == made
    _until_end(encoded, tmp_path, toy_runs.killable_settings(seed=2, schedule=schedule))
    assert base.stat().st_mtime_ns != made
