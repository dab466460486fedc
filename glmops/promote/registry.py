"""The model registry: ``RECIPE-candidates`` takes packages, ``RECIPE`` holds what was promoted.

Everything is found by the digest tag before it is made, so a call that was cut short anywhere can
simply be made again. A promoted version has a copy of its own: deleting every candidate, run and
experiment leaves it whole. Who writes here holds ``connection.writing``.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from glmops.errors import InputError
from glmops.promote import package, tracking, versions
from glmops.promote.connection import (
    connected,
    experiment_id,
    find_experiment,
    find_run,
    run_for,
)
from glmops.promote.runs import VERDICT
from glmops.promote.tracking import DIGEST, PACKAGE, candidates_of, champions_of
from glmops.promote.versions import Place
from glmops.storage import fresh_folder


def ensure_version(root: Path, recipe: str, digest: str, folder: Path, run_id: str) -> bool:
    """The candidate's version under ``RECIPE-candidates``; says whether it had to be written.

    Args:
        folder: The package, in a folder called ``package``; copied into MLflow's artifacts.
    """
    with connected(root) as client:
        experiment = experiment_id(client, root, recipe)
        place = Place(
            candidates_of(recipe), digest, "candidate", experiment, run_id, _scratch(root)
        )
        return versions.ensure(client, place, folder)


def ensure_champion(
    root: Path, recipe: str, digest: str, *, previous: str | None, actor: str
) -> bool:
    """Make the digest the champion in MLflow: own copy, version, aliases. Says if anything changed.

    Raises:
        InputError: No package of this digest is stored.
        IntegrityError: Its stored bytes are not the recorded ones.
    """
    with connected(root) as client:
        held = versions.find(client, recipe, digest)
        changed = held is None or not versions.whole(client, held)
        if changed:
            source = find_package(root, recipe, digest)
            experiment = experiment_id(client, root, champions_of(recipe))
            run = run_for(client, experiment, digest, "champion", actor=actor, tags={})
            run_id = run.info.run_id
            place = Place(recipe, digest, "champion", experiment, run_id, _scratch(root))
            versions.ensure(client, place, source)
            client.set_terminated(run_id, "FINISHED")
        fetch(root, recipe, digest, again=changed)
        moved = versions.point(client, recipe, "champion", digest)
        moved = versions.point(client, recipe, "previous", previous) or moved
        return changed or moved


def fetch(root: Path, registered: str, digest: str, *, again: bool = False) -> Path:
    """The folder of a stored package, every file hashed again.

    On this machine it is MLflow's own copy; from a server it is downloaded once into .glmops
    (``again``: once more).

    Raises:
        InputError: The registered model has no such package.
        IntegrityError: Stored bytes are not the recorded ones.
    """
    file = tracking.database(root)
    folder = tracking.package_folder(file, registered, digest) if file else None
    if file is None:
        folder = _download(root, registered, digest, again)
    if folder is None:
        raise _absent(f"registry {registered}", digest)
    package.verify(folder, digest)
    return folder


def find_package(root: Path, recipe: str, digest: str) -> Path:
    """The folder of a package wherever it is: promoted, a candidate, or forgotten by MLflow."""
    for registered in (recipe, candidates_of(recipe)):
        with suppress(InputError):
            return fetch(root, registered, digest)
    folder = tracking.stray_package(root, recipe, digest)
    if folder is None:
        raise _absent(f"registry {recipe}", digest)
    package.verify(folder, digest)
    return folder


def glance(root: Path, recipe: str, digest: str, *, with_version: bool = True) -> bool:
    """Whether a run, and if asked a candidate version, carry the digest. Cheap on SQLite."""
    candidates = candidates_of(recipe)
    if file := tracking.database(root):
        if not tracking.has_run(file, recipe, digest):
            return False
        return not with_version or tracking.package_folder(file, candidates, digest) is not None
    with connected(root) as client:
        experiment = find_experiment(client, recipe)
        run = find_run(client, experiment, digest, "candidate") if experiment else None
        if run is None or run.info.lifecycle_stage != "active" or run.info.status != "FINISHED":
            return False
        return not with_version or versions.find(client, candidates, digest) is not None


def aliases(root: Path, recipe: str) -> dict[str, str]:
    """Alias → digest, as MLflow has it."""
    if file := tracking.database(root):
        return tracking.aliases(file, recipe)
    with connected(root) as client:
        model = versions.registered_model(client, recipe)
        numbers = dict(model.aliases) if model else {}
        held = {alias: client.get_model_version(recipe, str(n)) for alias, n in numbers.items()}
        return {alias: version.tags.get(DIGEST, "") for alias, version in held.items()}


def mark(root: Path, recipe: str, digest: str, outcome: str) -> None:
    """Write a newer verdict on the candidate's run and version, for people who look in MLflow."""
    with connected(root) as client:
        experiment = find_experiment(client, recipe)
        run = find_run(client, experiment, digest, "candidate") if experiment else None
        if run is not None and run.info.lifecycle_stage == "active":
            client.set_tag(run.info.run_id, VERDICT, outcome)
        if held := versions.find(client, candidates_of(recipe), digest):
            client.set_model_version_tag(held.name, str(held.version), VERDICT, outcome)


def _download(root: Path, registered: str, digest: str, again: bool) -> Path | None:
    target = root / ".glmops" / "packages" / registered / digest / PACKAGE.name
    if target.is_dir() and not again:
        return target
    with connected(root) as client:
        import mlflow.artifacts

        held = versions.find(client, registered, digest)
        if held is None:
            return None
        uri = client.get_model_version_download_uri(registered, str(held.version))
        with fresh_folder(target.parent) as draft:
            arrived = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{uri}/{PACKAGE.as_posix()}",
                dst_path=str(draft),
                tracking_uri=tracking.tracking_uri(root),
            )
            if Path(arrived) != draft / PACKAGE.name:
                Path(arrived).rename(draft / PACKAGE.name)
    return target


def _scratch(root: Path) -> Path:
    return root / ".glmops" / "work" / "promote"


def _absent(where: str, digest: str) -> InputError:
    what, do = "no package of this digest is stored", "Run again what made it: that stores it anew."
    return InputError(where, what, got=digest[:12], do=do)
