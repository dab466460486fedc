"""What must be set before Prefect, DVC or MLflow is imported, because each reads it on import."""

from __future__ import annotations

import os
import sys
from pathlib import Path

OPT_IN = "GLMOPS_PREFECT_API_URL"
"""The one way to a Prefect server of one's own; without it a run starts a private one."""

QUIET = {
    "DO_NOT_TRACK": "true",  # MLflow counts only the word "true"; Prefect and HF take it too
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
"""Telemetry off, in every process."""

# What an opted-in server may need to let us in, and what somebody who debugs Prefect may set.
_KEPT_WITH_OPT_IN = ("PREFECT_API_", "PREFECT_CLIENT_")
_KEPT = ("PREFECT_LOGGING_",)


def settings(root: Path) -> dict[str, str]:
    """The variables of a run of the project at ``root``, on top of what is inherited.

    Runs are kept in ``.glmops/prefect`` and never reach the server of the user's own profile.
    """
    home = root / ".glmops" / "prefect"
    server = os.environ.get(OPT_IN)
    found = {
        **stage_settings(),
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect.db'}",
        # The first start of a server makes its database, which takes over ten seconds.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        # People see our own lines; Prefect's go to its database, where its pages show them.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
        **_reach_this_machine_directly(),
    }
    return {**found, "PREFECT_API_URL": server} if server else found


def is_private() -> bool:
    """Whether runs go to a server of our own, where nobody else's are."""
    return not os.environ.get(OPT_IN)


def stage_settings() -> dict[str, str]:
    """The variables of a stage process: stage commands say `python`, which must be this one."""
    here = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return {
        **QUIET,
        "PATH": os.pathsep.join([here, *(p for p in path if p != here)]),
        # A stage ends when this process is gone (pipelines/process.py).
        "GLMOPS_DRIVER_PID": str(os.getpid()),
    }


def apply(root: Path) -> None:
    """Make this process, and all that it starts, run under ``settings(root)`` only.

    Call it before anything imports Prefect, DVC or MLflow. A deployed flow never calls it: there
    the worker's own environment says which server the run belongs to.
    """
    chosen = settings(root)
    kept = _KEPT + (_KEPT_WITH_OPT_IN if "PREFECT_API_URL" in chosen else ())
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        if not name.startswith(kept):
            del os.environ[name]
    os.environ.update(chosen)


def _reach_this_machine_directly() -> dict[str, str]:
    """A company's proxy would otherwise be asked for 127.0.0.1."""
    found = {}
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        found[name] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
    return found
