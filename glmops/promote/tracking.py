"""Where MLflow lives, and what its SQLite file says, read directly.

Importing MLflow costs over two seconds, so a run that finds nothing to do, ``glmops status`` and
``glmops predict`` read the few columns they need. A test holds these queries to the real MLflow.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlparse

from glmops.storage import read_json, sha256_json

DIGEST = "glmops.digest"
ROLE = "glmops.role"
"""``candidate`` or ``champion``: both carry the digest, each in a place of its own."""
PACKAGE = Path("data", "package")
"""Where a package lies inside the MLflow model that carries it."""


def tracking_uri(root: Path) -> str:
    """GLMOPS_TRACKING_URI, or mlflow.db in the project: what a plain ``mlflow ui`` shows there."""
    return os.environ.get("GLMOPS_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def database(root: Path) -> Path | None:
    """The SQLite file behind the tracking URI, or None when it is something else."""
    uri = tracking_uri(root)
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def candidates_of(recipe: str) -> str:
    """The registered model that trainers may write; only the promoter writes RECIPE itself."""
    return f"{recipe}-candidates"


def champions_of(recipe: str) -> str:
    """The experiment that keeps promoted copies: cleaning up training runs must not reach them."""
    return f"{recipe}-champions"


def local_path(uri: str) -> Path | None:
    """The folder that an artifact URI names on this machine, or None when it is elsewhere."""
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return Path(uri) if not parsed.scheme else None


def has_run(file: Path, recipe: str, digest: str) -> bool:
    """Whether an active candidate run carries the digest."""
    found = _rows(
        file,
        "SELECT 1 FROM runs JOIN experiments USING (experiment_id) "
        "JOIN tags AS digest ON digest.run_uuid = runs.run_uuid AND digest.key = ? "
        "JOIN tags AS role ON role.run_uuid = runs.run_uuid AND role.key = ? "
        "WHERE experiments.name = ? AND digest.value = ? AND role.value = 'candidate' "
        "AND runs.lifecycle_stage = 'active' AND runs.status = 'FINISHED'",
        (DIGEST, ROLE, recipe, digest),
    )
    return bool(found)


def package_folder(file: Path, registered: str, digest: str) -> Path | None:
    """Where the package of a registered model's version lies, when it is on this machine."""
    for (location,) in _rows(
        file,
        "SELECT storage_location FROM model_versions JOIN model_version_tags USING (name, version) "
        "WHERE name = ? AND key = ? AND value = ? AND current_stage <> 'Deleted_Internal' "
        "ORDER BY version DESC",
        (registered, DIGEST, digest),
    ):
        folder = local_path(location or "")
        if folder is not None and (folder / PACKAGE / "manifest.json").is_file():
            return folder / PACKAGE
    return None


def aliases(file: Path, registered: str) -> dict[str, str]:
    """Alias → digest of the version it names."""
    found: list[tuple[str, str]] = _rows(
        file,
        "SELECT alias, value FROM registered_model_aliases AS a "
        "JOIN model_version_tags AS t ON t.name = a.name AND t.version = a.version "
        "WHERE a.name = ? AND t.key = ?",
        (registered, DIGEST),
    )
    return dict(found)


def _rows(file: Path, query: str, values: tuple[str, ...]) -> list[Any]:
    """The rows of a query; none where the file or its tables do not exist yet."""
    if not file.is_file():
        return []
    where = f"file:{quote(str(file.resolve()))}?mode=ro"
    with closing(sqlite3.connect(where, uri=True, timeout=30)) as connection:
        tables = connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE name IN "
            "('runs', 'model_version_tags', 'registered_model_aliases')"
        )
        if tables.fetchone()[0] < 3:
            return []
        return connection.execute(query, values).fetchall()


def stray_package(root: Path, recipe: str, digest: str) -> Path | None:
    """A package among the project's MLflow artifacts, for when mlflow.db forgot where it lies."""
    inside = Path("models", "*", "artifacts", PACKAGE, "manifest.json").as_posix()
    for experiment in (champions_of(recipe), recipe):
        for manifest in sorted((root / "mlartifacts" / experiment).glob(inside)):
            if sha256_json(read_json(manifest)) == digest:
                return manifest.parent
    return None
