"""A training that MLflow saw live becomes its candidate's run: one run, no point twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glmops.promote.connection import connected
from glmops.promote.live import follow
from glmops.storage import read_json, write_json
from glmops.train.spool import append, begin

KEY = "c" * 64


def spool(workshop: Any, steps: range, *, key: str = KEY) -> Path:
    """What a training appends: the losses that history.csv has, and its speed."""
    path = workshop.root / ".glmops" / "work" / "train" / "demo" / "live.jsonl"
    begin(path, key)
    for step in steps:
        values = {"loss": round(3 / step, 4), "tokens_per_second": 1000.0 + step}
        line = {"time": 1.7e9 + step, "phase": "lora", "step": step, "of": 30, "tokens": step}
        append(path, {**line, "values": values})
    return path


def trained(workshop: Any, key: str = KEY) -> None:
    workshop.train("first", steps=30)
    lineage = workshop.layout.model / "lineage.json"
    write_json(lineage, {**read_json(lineage), "training": key})


def send(workshop: Any, path: Path, word: str = "finished") -> bool:
    return follow(workshop.root, "demo", path, lambda: word, every=0.01)


def runs(workshop: Any) -> list[Any]:
    with connected(workshop.root) as client:
        found = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
        return sorted(found, key=lambda run: run.info.start_time)


def points(workshop: Any, run: Any, name: str) -> list[tuple[int, int, float]]:
    with connected(workshop.root) as client:
        found = client.get_metric_history(run.info.run_id, name)
    return sorted((point.step, point.timestamp, point.value) for point in found)


def test_registration_adopts_the_run_that_was_seen_live(workshop: Any) -> None:
    trained(workshop)
    assert send(workshop, spool(workshop, range(1, 21)))  # the last ten were never sent
    [live] = runs(workshop)
    assert live.info.status == "FINISHED"
    done = workshop.register()
    [run] = runs(workshop)
    assert run.info.run_id == live.info.run_id
    assert run.info.run_name == done.digest[:12]
    assert (run.data.tags["glmops.digest"], run.info.status) == (done.digest, "FINISHED")
    losses = points(workshop, run, "lora/loss")
    assert [step for step, _, _ in losses] == list(range(1, 31))
    assert [moment for _, moment, _ in losses[:20]] == [
        int((1.7e9 + s) * 1000) for s in range(1, 21)
    ]
    assert workshop.already() is not None
    assert workshop.register().already
    assert points(workshop, run, "lora/loss") == losses


def test_a_training_that_was_killed_goes_on_in_the_same_run(workshop: Any) -> None:
    path = spool(workshop, range(1, 13))
    assert send(workshop, path, "killed")
    assert [run.info.status for run in runs(workshop)] == ["KILLED"]
    path = spool(workshop, range(11, 31))  # from its last checkpoint: two steps are done again
    assert send(workshop, path)
    [run] = runs(workshop)
    assert run.info.status == "FINISHED"
    assert [step for step, _, _ in points(workshop, run, "lora/loss")] == list(range(1, 31))
    assert len(points(workshop, run, "lora/tokens_per_second")) == 30


def test_a_server_that_is_down_costs_nothing_but_the_curves_of_that_time(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(workshop)
    path = spool(workshop, range(1, 31))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("GLMOPS_TRACKING_URI", "http://127.0.0.1:9")
    assert not send(workshop, path)
    monkeypatch.delenv("GLMOPS_TRACKING_URI")
    workshop.register()
    [run] = runs(workshop)
    assert len(points(workshop, run, "lora/loss")) == 30


def test_a_server_that_comes_back_gets_what_it_missed(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spool(workshop, range(1, 31))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("GLMOPS_TRACKING_URI", "http://127.0.0.1:9")
    asked = []

    def ended() -> str | None:
        asked.append(1)
        if len(asked) == 3:
            monkeypatch.delenv("GLMOPS_TRACKING_URI")
        return "finished" if len(asked) > 60 else None

    assert follow(workshop.root, "demo", path, ended, every=0.01)
    [run] = runs(workshop)
    assert len(points(workshop, run, "lora/loss")) == 30


def test_equal_inputs_that_were_registered_before_make_no_second_run(workshop: Any) -> None:
    trained(workshop)
    send(workshop, spool(workshop, range(1, 31)))
    workshop.register()
    path = spool(workshop, range(1, 31))
    path.unlink()
    assert send(workshop, spool(workshop, range(1, 31)))
    assert workshop.mlflow_rows()["runs"] == 1


def test_the_run_of_other_inputs_is_nobodys_to_adopt(workshop: Any) -> None:
    trained(workshop, key="d" * 64)
    send(workshop, spool(workshop, range(1, 31)))
    done = workshop.register()
    live, mine = runs(workshop)
    assert "glmops.digest" not in live.data.tags
    assert mine.data.tags["glmops.digest"] == done.digest
