"""`glmops run` as a process: what runs, what it says, how it is stopped, and how it goes on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flows import graph
from glmops.storage import sha256_tree
from toy_project import (
    candidates,
    drive,
    edit,
    git,
    make_project,
    starts,
    still_alive,
    until,
)

STAGES = ["prepare@demo", "train@demo", "evaluate@demo"]
Driver = Callable[..., "subprocess.Popen[str]"]


def outputs(root: Path) -> dict[str, str]:
    """Hash of every file that the stages write."""
    folders = ("data/prepared", "models", "reports")
    return {f"{part}/{name}": h for part in folders for name, h in sha256_tree(root / part).items()}


def process_below(root: Path, after: int = 0) -> int:
    """The pid of the process that the sleeping stage has started, once there is one."""
    found = until(
        lambda: [pid for kind, pid in starts(root)[after:] if kind == "below"], "a stage sleeps"
    )
    return int(found[0])


def test_a_run_does_every_stage_and_the_next_one_none(
    toy: Path, on_server: dict[str, str], prefect_server: Any
) -> None:
    first = drive(toy, on_server)
    assert first.code == 0, first.said
    assert first.starts == ["prepare", "train", "evaluate"]
    assert (first.outcome["executed"], first.outcome["kept"]) == (STAGES, [])
    assert len(candidates(toy)) == 1
    run = prefect_server.runs("demo")[0]
    assert run["state_name"] == "Completed"
    wanted = {**dict.fromkeys(STAGES, "Completed"), "register": "Completed"}
    until(lambda: prefect_server.task_states(run) == wanted, "one task for each stage")

    second = drive(toy, on_server)
    assert (second.code, second.starts) == (0, [])
    assert (second.outcome["executed"], second.outcome["kept"]) == ([], STAGES)
    assert second.outcome["loaded"] == []  # of prefect, mlflow, torch, transformers
    assert prefect_server.runs("demo")[0]["id"] == run["id"]

    edit(toy / "recipes" / "demo.yaml", "split: test", "split: dev")
    third = drive(toy, on_server)
    assert third.starts == ["evaluate"]
    assert third.outcome["kept"] == ["prepare@demo", "train@demo"]
    latest = prefect_server.runs("demo")[0]
    kept = {"prepare@demo": "Kept", "train@demo": "Kept", "evaluate@demo": "Completed"}
    until(
        lambda: prefect_server.task_states(latest) == {**kept, "register": "Completed"},
        "Prefect shows which stages were kept",
    )


def test_a_candidate_lost_by_the_registry_is_registered_again_without_a_server(built: Path) -> None:
    done = drive(built)
    assert (done.code, done.starts, done.outcome["loaded"]) == (0, [], [])
    assert len(candidates(built)) == 1


def test_a_dry_run_forecasts_and_does_nothing(toy: Path) -> None:
    done = drive(toy, dry=True)
    assert (done.code, done.starts) == (0, [])
    assert done.outcome["forecast"] == dict(zip(STAGES, ["run", "run?", "run?"], strict=True))
    assert not (toy / "dvc.lock").exists()


def test_a_gate_that_refuses_ends_in_3_each_time(
    toy: Path, on_server: dict[str, str], prefect_server: Any
) -> None:
    assert drive(toy, on_server, refuse=True).code == 3
    assert prefect_server.runs("demo")[0]["state_name"] == "Refused"
    again = drive(toy, on_server, refuse=True)
    assert (again.code, again.starts, again.outcome["loaded"]) == (3, [], [])


def test_a_stage_that_refuses_is_heard_once_and_not_tried_again(
    toy: Path, on_server: dict[str, str], prefect_server: Any
) -> None:
    message = "data/raw/rows.txt:3: expected 2 fields, got 1. Repair the row."
    done = drive(toy, {**on_server, "TOY_TRAIN": "refuse"})
    assert done.code == 2
    assert done.said.count(message) == 1
    assert "Traceback" not in done.said
    assert done.starts == ["prepare", "train"]
    run = prefect_server.runs("demo")[0]
    assert (run["state_type"], run["state"]["message"]) == ("FAILED", message)
    assert candidates(toy) == {}


def test_a_stage_that_dies_is_tried_once_more(toy: Path, on_server: dict[str, str]) -> None:
    done = drive(toy, {**on_server, "TOY_TRAIN": "die-once"})
    assert done.code == 0, done.said
    assert done.starts == ["prepare", "train", "train", "evaluate"]
    assert "ended by SIGKILL" in done.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_to_the_driver_alone_ends_the_whole_tree(
    toy: Path,
    on_server: dict[str, str],
    prefect_server: Any,
    start_driver: Driver,
    number: signal.Signals,
) -> None:
    driver = start_driver(toy, {**on_server, "TOY_TRAIN": "sleep:300"})
    process_below(toy)
    os.kill(driver.pid, number)
    said, _ = driver.communicate(timeout=30)
    assert driver.returncode == 130, said
    assert still_alive([pid for _, pid in starts(toy)]) == []
    run = prefect_server.runs("demo")[0]
    assert run["state_type"] == "CANCELLED"
    states = {"prepare@demo": "Completed", "train@demo": "Cancelled"}
    until(lambda: prefect_server.task_states(run) == states, "the running task is cancelled too")
    assert "Traceback" not in said


def test_two_runs_with_other_values_at_once_do_not_disturb_each_other(
    toy: Path, on_server: dict[str, str], start_driver: Driver
) -> None:
    (toy / "notes.txt").write_text("untracked")
    status = git(toy, "status", "--porcelain")
    index = (toy / ".git" / "index").read_bytes()
    slow = {**on_server, "TOY_TRAIN": "sleep:2"}
    drivers = [start_driver(toy, slow, overrides=[f"train.seed={seed}"]) for seed in (2, 3)]
    for driver in drivers:
        said, _ = driver.communicate(timeout=90)
        assert driver.returncode == 0, said
    assert (toy / ".git" / "index").read_bytes() == index
    assert git(toy, "status", "--porcelain") == status
    assert sorted(map(str, candidates(toy).values())) == ["{'train.seed': 2}", "{'train.seed': 3}"]
    assert not (toy / "dvc.lock").exists()
    again = drive(toy, on_server, overrides=["train.seed=2"])
    assert (again.code, again.starts, again.outcome["kept"]) == (0, [], STAGES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overrides": ["train.lr=1"]}, "-S train.lr: unknown key"),
        ({"overrides": ["promote.min_rows=1"]}, "the gate's policy is not a run's to change"),
        ({"raw": "no/such.jsonl"}, "--raw: no such file or folder, got 'no/such.jsonl'"),
        ({"from_stage": "tune"}, "--from: unknown name, got 'tune'. Known: evaluate, prepare"),
    ],
)
def test_bad_arguments_end_in_2_with_one_line(
    toy: Path, arguments: dict[str, Any], message: str
) -> None:
    done = drive(toy, **arguments)
    assert (done.code, done.starts) == (2, [])
    assert message in done.said
    assert len(done.said.strip().split("\n")) == 1


def test_a_run_that_was_killed_and_stopped_ends_as_an_undisturbed_one(
    toy: Path, tmp_path: Path, on_server: dict[str, str], start_driver: Driver
) -> None:
    """No server is named at first: each run starts its own, on one database, and takes it along."""
    killed = start_driver(toy, {"TOY_TRAIN": "sleep:300"})
    process_below(toy)
    server = [child.pid for child in _children(killed.pid) if "flows.server" in child.cmdline()]
    assert len(server) == 1
    killed.kill()
    killed.wait()
    left = [*server, *(pid for _, pid in starts(toy))]
    until(lambda: not still_alive(left), "the server and the stage of a killed run end", 10)

    noted = len(starts(toy))
    stopped = start_driver(toy, {"TOY_TRAIN": "sleep:300"})
    process_below(toy, after=noted)
    os.killpg(stopped.pid, signal.SIGINT)  # as a terminal does: to the driver and all stages
    said, _ = stopped.communicate(timeout=30)
    assert stopped.returncode == 130, said
    assert still_alive([pid for _, pid in starts(toy)]) == []
    with closing(sqlite3.connect(toy / ".glmops" / "prefect" / "prefect.db")) as database:
        runs = database.execute("select state_type from flow_run order by created").fetchall()
        tasks = database.execute("select name, state_name from task_run order by created")
        tasks = tasks.fetchall()
    assert [state for (state,) in runs] == ["CRASHED", "CANCELLED"]
    assert tasks[-2:] == [("prepare@demo", "Kept"), ("train@demo", "Cancelled")]

    finished = drive(toy, on_server)
    assert (finished.code, finished.starts) == (0, ["train", "evaluate"]), finished.said
    undisturbed = make_project(tmp_path / "undisturbed")
    for address in STAGES:
        graph.reproduce(undisturbed, address)
    assert outputs(toy) == outputs(undisturbed)
    assert len(candidates(toy)) == 1


def test_a_named_server_that_does_not_answer_is_reported_in_one_line(toy: Path) -> None:
    done = drive(toy, {"GLMOPS_PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert (done.code, done.starts) == (1, [])
    assert "GLMOPS_PREFECT_API_URL: no Prefect server answers there" in done.said
    assert "Traceback" not in done.said


def test_ctrl_c_while_the_server_starts_leaves_nothing_behind(
    toy: Path, start_driver: Driver
) -> None:
    driver = start_driver(toy)
    until(lambda: _children(driver.pid), "the server's process is there")
    children = [child.pid for child in _children(driver.pid)]
    os.kill(driver.pid, signal.SIGINT)
    said, _ = driver.communicate(timeout=30)
    assert driver.returncode == 130, said
    # Or within a second, when the signal came before the driver knew that it had started it.
    until(lambda: not still_alive(children), "the server ended", 5)
    assert starts(toy) == []


def _children(pid: int) -> list[Any]:
    import psutil

    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
