"""Fixtures of the flow's tests: toy projects, and one real Prefect server for the whole session."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from toy_project import driver_environment, make_project, still_alive, until


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A committed toy project in which nothing has run."""
    return make_project(tmp_path / "toy")


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from flows import graph

    root = make_project(tmp_path_factory.mktemp("built") / "toy")
    for address in graph.stages(root, "demo"):
        graph.reproduce(root, address)
    return root


@pytest.fixture
def built(_built: Path, tmp_path: Path) -> Path:
    """A toy project whose three stages have run once."""
    root = tmp_path / "toy"
    shutil.copytree(_built, root, symlinks=True)
    return root


@dataclass(frozen=True)
class PrefectServer:
    """A running server. ``environment`` is what a command needs to talk to it."""

    url: str
    environment: dict[str, str]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = httpx.request(method, f"{self.url}{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The flow runs called ``name``, newest first."""
        found = self.call("POST", "/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})
        return sorted(found, key=lambda run: run["created"], reverse=True)

    def task_states(self, run: dict[str, Any]) -> dict[str, str]:
        body = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        return {
            task["name"]: task["state_name"]
            for task in self.call("POST", "/task_runs/filter", body)
        }


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """`prefect server start` from the installed environment, on a free port and a new database."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    command += ["--host", "127.0.0.1"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True
        )
        try:
            until(lambda: _is_up(url, server), f"Prefect's server is up, see {home / 'log'}", 120)
            yield PrefectServer(url, environment)
        finally:
            os.kill(server.pid, signal.SIGTERM)
            server.wait(30)
    assert not still_alive([server.pid])


def _is_up(url: str, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, f"the server ended with {server.returncode}"
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def on_server(prefect_server: PrefectServer) -> dict[str, str]:
    """The variable that makes a driver use the session's server instead of a private one."""
    return {"GLMOPS_PREFECT_API_URL": prefect_server.url}


@pytest.fixture
def start_driver() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a driver process and leave it running; what a failed test leaves is ended by pid."""
    from toy_project import driver_command

    started: list[subprocess.Popen[str]] = []

    def start(
        root: Path, variables: dict[str, str] | None = None, **arguments: Any
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            driver_command(root, arguments), env=driver_environment(root, **(variables or {})),
            cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8", start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()
