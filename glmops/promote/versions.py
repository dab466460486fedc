"""One version of a registered model that carries a package, found by its digest tag or made."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from glmops.promote.connection import Client, marked
from glmops.promote.tracking import DIGEST, PACKAGE, ROLE, local_path

LOADER = "glmops.serve.predict"
"""The module whose ``_load_pyfunc`` opens a package: no pickle is stored or read."""
NEEDED = ("torch", "transformers", "peft", "safetensors", "tokenizers", "sentencepiece")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a package goes: the registered model, and the run and experiment that keep its copy."""

    registered: str
    digest: str
    role: Literal["candidate", "champion"]
    experiment: str
    run_id: str
    scratch: Path
    """A folder on this machine that may be emptied."""


def ensure(client: Client, place: Place, folder: Path) -> bool:
    """Make the version hold the package at ``folder``; says whether anything had to be written.

    ``folder`` must be called ``package``: MLflow keeps the last part of a data path.
    """
    held = find(client, place.registered, place.digest)
    if held is not None and whole(client, held):
        return False
    model = _logged_model(client, place, folder)
    if held is not None:
        if local_path(held.source) == local_path(model.artifact_location):
            return True  # its lost files are back
        client.delete_model_version(place.registered, str(held.version))
    if registered_model(client, place.registered) is None:
        client.create_registered_model(place.registered)
    # On SQLite MLflow would look a models:/ address up in the process-wide store, which is another.
    local = local_path(model.artifact_location) is not None
    source = model.artifact_location if local else f"models:/{model.model_id}"
    tags = {DIGEST: place.digest, ROLE: place.role}
    client.create_model_version(
        place.registered, source, place.run_id, tags, model_id=model.model_id
    )
    return True


def find(client: Client, registered: str, digest: str) -> Any | None:
    """The version of a registered model that carries the digest; the newest if there are two."""
    query = f"name = '{registered}' AND tags.`{DIGEST}` = '{digest}'"
    found = client.search_model_versions(query)
    return max(found, key=lambda held: int(held.version), default=None)


def whole(client: Client, held: Any) -> bool:
    """Whether a version's package is still there. A server's artifacts are taken on trust here."""
    return _has_package(client.get_model_version_download_uri(held.name, str(held.version)))


def registered_model(client: Client, name: str) -> Any | None:
    return next(iter(client.search_registered_models(f"name = '{name}'")), None)


def point(client: Client, registered: str, alias: str, digest: str | None) -> bool:
    """Set or remove an alias; says whether it was not so already."""
    model = registered_model(client, registered)
    now = dict(model.aliases).get(alias) if model else None
    held = find(client, registered, digest) if digest else None
    if held is None:
        if now is not None:
            client.delete_registered_model_alias(registered, alias)
        return now is not None
    if now is not None and str(now) == str(held.version):
        return False
    client.set_registered_model_alias(registered, alias, str(held.version))
    return True


def requirements() -> list[str]:
    """What answering needs, in the versions of this machine; written out so MLflow guesses none."""
    wanted = [f"glmops[serve]=={version('glmops')}"]
    for name in NEEDED:
        try:
            wanted.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            continue  # a machine that only registers need not have it
    return wanted


def _logged_model(client: Client, place: Place, folder: Path) -> Any:
    """A READY logged model that carries the package: found, finished, or made."""
    from mlflow.entities import LoggedModelOutput

    query = marked(place.digest, place.role)
    model = next(iter(client.search_logged_models([place.experiment], query)), None)
    if model is None:
        tags = {DIGEST: place.digest, ROLE: place.role}
        model = client.create_logged_model(place.experiment, "package", place.run_id, tags)
        client.log_outputs(place.run_id, [LoggedModelOutput(model.model_id, 0)])
    elif str(model.status) == "READY" and _has_package(model.artifact_location):
        return model
    draft = _draft(place, model, folder)
    client.log_model_artifacts(model.model_id, str(draft))
    shutil.rmtree(draft)
    return client.finalize_logged_model(model.model_id, "READY")


def _draft(place: Place, model: Any, folder: Path) -> Path:
    """The package as MLflow wants to be given it: its own files around ``data/package``."""
    import mlflow.pyfunc
    from mlflow.models import Model

    draft = place.scratch / "mlflow-model"
    if draft.exists():
        shutil.rmtree(draft)
    draft.parent.mkdir(parents=True, exist_ok=True)
    mlflow.pyfunc.save_model(
        str(draft),
        loader_module=LOADER,
        data_path=str(folder),
        pip_requirements=requirements(),
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            run_id=place.run_id,
            model_uuid=model.model_id,
            model_id=model.model_id,
        ),
    )
    return draft


def _has_package(uri: str) -> bool:
    folder = local_path(uri)
    return folder is None or (folder / PACKAGE / "manifest.json").is_file()
