"""How a run of several processes ends before its time. Each start of two costs ten seconds."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import toy_model as toy
from glmops.errors import MachineError, RecipeError
from glmops.recipe import Launch
from glmops.train.launch import require_devices, train_as_launched
from glmops.train.spool import SPOOL, read
from project import ROOT
from toy_project import still_alive, until
from train.launching import place, settings

TWO = {"processes": 2}
ENDLESS = toy.schedule(epochs=None, max_steps=100_000, batch_size=4)


def _workers(parent: int) -> dict[int, psutil.Process]:
    """The processes that train, by number, once each of them takes part."""
    found = {}
    for each in psutil.Process(parent).children():
        with suppress(psutil.NoSuchProcess):  # or a child of another test, ended and not asked for
            if "glmops.train.worker" in each.cmdline():
                found[int(each.environ()["RANK"])] = each
    return found


def _trains(root: Path) -> bool:
    return any("step" in line for line in read(root / "scratch" / SPOOL)[0])


def test_an_error_of_the_processes_is_the_one_line_that_a_single_one_gives(
    encoded: Path, tmp_path: Path
) -> None:
    said = []
    for launch in ({}, TWO):
        lora = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["no_such_layer"]}
        with pytest.raises(RecipeError) as caught:
            train_as_launched(encoded, settings(launch, lora=lora), place(tmp_path))
        said.append((str(caught.value), caught.value.exit_code, caught.value.where))
    assert said[0] == said[1]
    assert "no_such_layer" in said[0][0]
    assert not (tmp_path / "out").exists()


def test_a_killed_process_ends_the_run_and_is_named(encoded: Path, tmp_path: Path) -> None:
    trained: list[psutil.Process] = []

    def kill() -> None:
        until(lambda: _trains(tmp_path), "the first steps", 240)
        trained.extend(_workers(os.getpid()).values())
        _workers(os.getpid())[1].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(MachineError) as caught:
        train_as_launched(encoded, settings(TWO, schedule=ENDLESS), place(tmp_path))
    killer.join()
    assert "train process 1: was killed by SIGKILL" in str(caught.value)
    assert "memory" in str(caught.value)
    assert len(trained) == 2
    assert not still_alive([each.pid for each in trained])


@pytest.fixture
def stage(encoded: Path, tmp_path: Path) -> Any:
    """A process that trains on two others; ended in any case."""
    values = settings(TWO, schedule=ENDLESS).model_dump(mode="json")
    program = (
        "import json, sys; from pathlib import Path\n"
        "from glmops.recipe import Train; from glmops.train.launch import train_as_launched\n"
        "from glmops.train.candidate import Place\n"
        "encoded, root, values = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])\n"
        "place = Place(root, root / 'scratch', root / 'out')\n"
        "try:\n    train_as_launched(encoded, Train.model_validate(values), place)\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    command = [sys.executable, "-c", program, str(encoded), str(tmp_path), json.dumps(values)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_run_that_is_asked_to_stop_saves_what_it_did(
    stage: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    until(lambda: _trains(tmp_path), "the first steps", 240)
    workers = [each.pid for each in _workers(stage.pid).values()]
    stage.send_signal(signal.SIGTERM)
    assert stage.wait(240) == 130
    assert not still_alive(workers)
    said = [line["said"] for line in read(tmp_path / "scratch" / SPOOL)[0] if "said" in line]
    [step] = re.findall(r"stopped after step (\d+) of 100000; saved", " ".join(said))
    saved = tmp_path / "scratch" / "checkpoints" / "lora" / f"step-{int(step):08}"
    assert (saved / "manifest.json").is_file()


def test_nothing_goes_on_when_the_stage_is_killed(
    stage: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    until(
        lambda: len([*(tmp_path / "scratch").glob("launch-*/rank-*.log")]) == 2,
        "two processes",
        240,
    )
    workers = [each.pid for each in _workers(stage.pid).values()]
    assert len(workers) == 2
    stage.kill()
    until(lambda: not still_alive(workers), "the end of what trains")


def test_machines_that_are_told_nothing_of_each_other_do_not_start(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MASTER_ADDR", "PET_RDZV_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MachineError, match=r"nothing says where the machines meet, got 2\."):
        train_as_launched(encoded, settings({"nodes": 2}), place(tmp_path))


def test_on_a_machine_without_gpus_processes_share_its_cores() -> None:
    import torch

    if torch.cuda.is_available():
        fits = torch.cuda.device_count()
        require_devices(Launch(processes=fits))
        with pytest.raises(MachineError, match=f"this machine has {fits}"):
            require_devices(Launch(processes=fits + 1))
    else:
        require_devices(Launch(processes=64))
