"""What a run sets before Prefect, DVC and MLflow are imported, seen from those libraries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.environment import settings, stage_settings
from toy_project import ROOT

SEEN = """
import json, os, pathlib, sys
from flows import environment
environment.apply(pathlib.Path(sys.argv[1]))
from prefect.settings import get_current_settings
seen = get_current_settings()
if sys.argv[2:]:
    from mlflow.telemetry.utils import is_telemetry_disabled
print(json.dumps({
    "api": seen.api.url, "key": bool(seen.api.key), "home": str(seen.home),
    "database": seen.server.database.connection_url.get_secret_value(),
    "analytics": seen.server.analytics_enabled,
    "mlflow quiet": bool(sys.argv[2:]) and is_telemetry_disabled(),
    "patience": seen.server.ephemeral.startup_timeout_seconds,
}))
"""


def seen(root: Path, *libraries: str, **inherited: str) -> dict[str, object]:
    """The settings as Prefect (and MLflow, if named) reads them in a process of such variables."""
    done = subprocess.run(
        [sys.executable, "-c", SEEN, str(root), *libraries],
        cwd=root, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **inherited},
    )  # fmt: skip
    return json.loads(done.stdout.strip().split("\n")[-1])


def test_runs_on_a_laptop_never_reach_a_server_that_the_user_had_set(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "profiles.toml").write_text(
        'active = "work"\n[profiles.work]\nPREFECT_API_URL = "http://198.51.100.7/api"\n'
    )
    found = seen(
        tmp_path,
        "mlflow",
        PREFECT_HOME=str(tmp_path / "home"),
        PREFECT_PROFILE="work",
        PREFECT_API_URL="http://198.51.100.8/api",
        PREFECT_API_KEY="secret",
        PREFECT_SERVER_DATABASE_CONNECTION_URL="postgresql+asyncpg://198.51.100.9/prefect",
    )
    assert found == {
        "api": None,
        "key": False,
        "home": str(tmp_path / ".glmops" / "prefect"),
        "database": f"sqlite+aiosqlite:///{tmp_path}/.glmops/prefect/prefect.db",
        "analytics": False,
        "mlflow quiet": True,
        "patience": 120,
    }


def test_a_server_that_the_user_names_for_glmops_is_used_with_its_key(tmp_path: Path) -> None:
    found = seen(
        tmp_path, GLMOPS_PREFECT_API_URL="http://198.51.100.7/api", PREFECT_API_KEY="secret"
    )
    assert found["api"] == "http://198.51.100.7/api"
    assert found["key"] is True


def test_the_python_of_a_stage_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"/usr/bin:{here}:/bin")
    assert stage_settings()["PATH"] == f"{here}:/usr/bin:/bin"
    found = shutil.which("python", path=stage_settings()["PATH"])
    assert found is not None
    assert Path(found).parent == here


def test_a_proxy_is_not_asked_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "intra.example,localhost")
    assert settings(tmp_path)["no_proxy"] == "intra.example,localhost,127.0.0.1"
