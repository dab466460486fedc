"""The flow as a deployment: prefect.yaml on a real server, scheduled, run by a worker, cancelled.

Under SQLAlchemy 2.1 all of Prefect starts and its scheduler never fires, in silence: the scheduled
runs that are waited for here are what tells.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from toy_project import ROOT, driver_environment, make_project, starts, still_alive, until


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy project with the real flow and the real prefect.yaml in it."""
    root = make_project(tmp_path_factory.mktemp("deployed") / "toy")
    shutil.copytree(ROOT / "flows", root / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", root)
    return root


@pytest.fixture(scope="module")
def deployment(project: Path, prefect_server: Any) -> dict[str, Any]:
    """`retrain-demo`, deployed as the comment in prefect.yaml says."""
    for command in (
        ["work-pool", "create", "local", "--type", "process"],
        ["--no-prompt", "deploy", "--all"],
    ):
        subprocess.run(
            [sys.executable, "-m", "prefect", *command], cwd=project, check=True,
            env={**prefect_server.environment, "PWD": str(project)}, capture_output=True,
        )  # fmt: skip
    return prefect_server.call("GET", "/deployments/name/retrain/retrain-demo")


@pytest.fixture
def worker(project: Path, prefect_server: Any) -> Iterator[None]:
    """A process worker on the pool; the train stage of what it runs sleeps."""
    variables = driver_environment(project, TOY_TRAIN="sleep:300", PREFECT_WORKER_QUERY_SECONDS="1")
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local"],
        env={**prefect_server.environment, **variables}, cwd=project.parent,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(60)


def test_prefect_yaml_holds_no_path_of_a_machine_and_one_run_at_a_time() -> None:
    text = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    (deployment,) = yaml.safe_load(text)["deployments"]
    assert deployment["entrypoint"] == "flows/retrain.py:retrain"
    assert deployment["concurrency_limit"] == 1
    assert not any(word.startswith(("/", "~")) for word in text.split())


def test_a_cron_deployment_yields_scheduled_runs(
    deployment: dict[str, Any], project: Path, prefect_server: Any
) -> None:
    (step,) = deployment["pull_steps"]
    assert [*step.values()] == [{"directory": str(project)}]
    assert deployment["global_concurrency_limit"]["limit"] == 1
    body = {"deployments": {"id": {"any_": [deployment["id"]]}}}
    runs = until(lambda: prefect_server.call("POST", "/flow_runs/filter", body), "scheduled", 90)
    assert all(run["auto_scheduled"] and run["state_type"] == "SCHEDULED" for run in runs)
    times = {run["expected_start_time"].partition("T")[2][:8] for run in runs}
    assert times == {"03:00:00"}  # UTC, from the cron line `0 3 * * *`


@pytest.mark.usefixtures("worker")
def test_a_deployed_run_that_is_cancelled_ends_its_stages(
    deployment: dict[str, Any], project: Path, prefect_server: Any
) -> None:
    made = prefect_server.call("POST", f"/deployments/{deployment['id']}/create_flow_run", {})

    def run() -> dict[str, Any]:
        return prefect_server.call("GET", f"/flow_runs/{made['id']}")

    until(lambda: [kind for kind, _ in starts(project) if kind == "below"], "train sleeps", 90)
    state = {"state": {"type": "CANCELLING"}}
    prefect_server.call("POST", f"/flow_runs/{made['id']}/set_state", state)
    until(lambda: run()["state_type"] == "CANCELLED", "the run is cancelled", 60)
    until(lambda: not still_alive([pid for _, pid in starts(project)]), "its stages ended", 10)
    assert prefect_server.task_states(run())["prepare@demo"] == "Completed"
