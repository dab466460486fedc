"""The installed set works together: no package says so, so servers are really started."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("package", "working"),
    # Measured: Prefect 3.8.8's server dies on fastapi 0.165 and its scheduler fails on SQLAlchemy
    # 2.1.9; both work on the ranges here.
    [("torch", "==2.13.0"), ("fastapi", ">=0.139,<0.151"), ("SQLAlchemy", ">=2.0,<2.1")],
)
def test_a_version_that_breaks_in_silence_is_not_installed(package: str, working: str) -> None:
    assert importlib.metadata.version(package) in SpecifierSet(working)


def test_the_pins_name_no_host_and_pin_torch_exactly() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert all(Requirement(pin).url is None and "://" not in pin for pin in pins)
    assert all(str(Requirement(pin).specifier).startswith("==") for pin in pins)


def closure(package: str, extras: frozenset[str]) -> set[str]:
    """Every distribution that installing ``package[extras]`` brings, by its installed metadata."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(package, extras)]
    while todo:
        name, wanted = todo.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in lines:
            need = Requirement(line)
            marker = need.marker
            if marker and not any(marker.evaluate({"extra": e}) for e in (wanted or {""})):
                continue
            todo.append((need.name.lower().replace("_", "-"), frozenset(need.extras)))
    return {name for name, _ in seen}


def test_a_serving_machine_needs_neither_dvc_nor_prefect_nor_mlflow() -> None:
    serving = closure("glmops", frozenset({"serve"}))
    assert {"torch", "transformers", "peft"} <= serving
    assert not serving & {"dvc", "prefect", "mlflow", "great-expectations"}


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=tmp_path
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def test_the_mlflow_server_starts_and_keeps_a_run(mlflow_server: str, tmp_path: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx.get(f"{mlflow_server}/health").status_code == 200:
                break
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.5)
    api = f"{mlflow_server}/api/2.0/mlflow"
    experiment = httpx.post(f"{api}/experiments/create", json={"name": "e"}).json()["experiment_id"]
    made = httpx.post(f"{api}/runs/create", json={"experiment_id": experiment}).json()["run"]
    found = httpx.post(f"{api}/runs/search", json={"experiment_ids": [experiment]}).json()["runs"]
    assert [run["info"]["run_id"] for run in found] == [made["info"]["run_id"]]
