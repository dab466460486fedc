"""MLflow opened quietly, one writer at a time, and the few things that runs and versions share."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from glmops.errors import MachineError
from glmops.promote.tracking import DIGEST, ROLE, database, tracking_uri

Client = Any
"""mlflow.MlflowClient. MLflow has no types that a strict check could use."""

LOCK_SECONDS = 600

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",  # MLflow reads only the word "true"
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # a new database is no news
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout may have to be one JSON document
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "true" if sys.stderr.isatty() else "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # the default waits for minutes on a dead server
}


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Held while a run, a version, an alias or a decision is written.

    MLflow's first use migrates its database, and two processes doing that at once clash; and
    "find, else create" is only safe for one at a time.
    """
    path = root / ".glmops" / "locks" / "registry.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=LOCK_SECONDS):
            yield
    except Timeout:
        do = "Wait for it to end, or stop it, then try again."
        raise MachineError(path, "another process has been registering here", do=do) from None


@contextmanager
def connected(root: Path) -> Iterator[Client]:
    """A client of the project's MLflow. Its failures become a MachineError that names the place."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        # MLflow complains about type hints of its own while it is imported.
        warnings.filterwarnings(
            "ignore", message=".*Any type hint is inferred", category=UserWarning
        )
        import_module("mlflow.pyfunc")
    from mlflow.exceptions import MlflowException

    where = tracking_uri(root)
    try:
        file = database(root)
        if file is not None and not file.exists():
            _make_database(file)
        yield _client(where)
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        do = "Start MLflow or correct GLMOPS_TRACKING_URI, then run the command again."
        raise MachineError("MLflow", f"the request failed ({reason})", do=do) from error


@cache
def _client(where: str) -> Client:
    import mlflow

    return mlflow.MlflowClient(tracking_uri=where, registry_uri=where)


def _make_database(file: Path) -> None:
    """Let MLflow make its tables in a draft: killed in the middle, it would never open it again."""
    draft = file.with_name(f".{file.name}.draft")
    for old in file.parent.glob(f"{draft.name}*"):
        old.unlink()
    _client(f"sqlite:///{draft}").search_experiments(max_results=1)
    draft.rename(file)


def experiment_id(client: Client, root: Path, name: str) -> str:
    """The experiment of that name: found, restored, or made."""
    found = client.get_experiment_by_name(name)
    if found is None:
        # A server decides itself where artifacts go; a file in the project keeps them beside it.
        place = (root.resolve() / "mlartifacts" / name).as_uri() if database(root) else None
        return str(client.create_experiment(name, artifact_location=place))
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def find_experiment(client: Client, name: str) -> str | None:
    """The experiment's id when it exists and is not deleted."""
    found = client.get_experiment_by_name(name)
    active = found is not None and found.lifecycle_stage == "active"
    return str(found.experiment_id) if active else None


def marked(digest: str, role: str) -> str:
    """MLflow's query for what carries this digest in this role."""
    return f"tags.`{DIGEST}` = '{digest}' AND tags.`{ROLE}` = '{role}'"


def find_run(client: Client, experiment: str, digest: str, role: str) -> Any | None:
    """The run that carries the digest, active or deleted; an active one is preferred."""
    from mlflow.entities import ViewType

    runs = client.search_runs(
        [experiment],
        marked(digest, role),
        ViewType.ALL,
        order_by=["attributes.start_time ASC"],
    )
    return min(runs, key=lambda run: run.info.lifecycle_stage != "active", default=None)


def run_for(
    client: Client, experiment: str, digest: str, role: str, *, actor: str, tags: dict[str, str]
) -> Any:
    """The run that carries the digest: found, restored, or made (then status RUNNING)."""
    run = find_run(client, experiment, digest, role)
    if run is None:
        given = {DIGEST: digest, ROLE: role, "mlflow.user": actor, **tags}
        return client.create_run(experiment, tags=given, run_name=digest[:12])
    if run.info.lifecycle_stage != "active":
        client.restore_run(run.info.run_id)
    return run


def set_tags(client: Client, run_id: str, tags: dict[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """MLflow takes at most 1,000 metrics or 100 params in one call."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
