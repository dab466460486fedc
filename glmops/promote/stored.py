"""Where the evaluation of a model that the ledger knows lies: answers, scores, scorecard.

Only those files are hashed again here. The gate hashes whole packages; for a table or a page nobody
should wait until gigabytes of weights have been read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glmops.errors import InputError, IntegrityError
from glmops.promote import registry, tracking
from glmops.promote.connection import connected, find_experiment, find_run
from glmops.promote.runs import EVALUATION
from glmops.promote.tracking import PACKAGE, candidates_of
from glmops.storage import fresh_folder, read_json, sha256_file, sha256_json


def evaluation_of(root: Path, recipe: str, digest: str) -> Path:
    """The folder with a model's stored evaluation, each file hashed again.

    A candidate that the gate refused has no package; its run in MLflow keeps its evaluation.

    Raises:
        InputError: It is stored nowhere.
        IntegrityError: Its bytes are not the recorded ones.
    """
    for folder in _packages(root, recipe, digest):
        _verify(folder / "manifest.json", folder / "evaluation", digest)
        return folder / "evaluation"
    if (kept := _of_run(root, recipe, digest)) is not None:
        return kept
    return registry.find_package(root, recipe, digest) / "evaluation"


def answers_to(root: Path, recipe: str, digest: str, test_set: Mapping[str, Any]) -> Path | None:
    """A champion's evaluation on these test rows, as far as it is stored: what it was scored again
    on, else what it was packaged with; None when neither is there."""
    again = root / ".glmops" / "work" / "promote" / "rescored" / digest
    for card in sorted(again.glob(f"*/reports/{recipe}/evaluate/scorecard.json")):
        if read_json(card)["test"] == test_set:
            return card.parent
    try:
        return evaluation_of(root, recipe, digest)
    except (InputError, IntegrityError):
        return (
            None  # the page says that it is not stored; what it means for the gate, the gate says
        )


def _packages(root: Path, recipe: str, digest: str) -> Iterator[Path]:
    """Packages of this digest that are on this machine."""
    names = (recipe, candidates_of(recipe))
    if file := tracking.database(root):
        found = [tracking.package_folder(file, name, digest) for name in names]
        found.append(tracking.stray_package(root, recipe, digest))
    else:
        downloads = root / ".glmops" / "packages"
        found = [downloads / name / digest / PACKAGE.name for name in names]
    for folder in found:
        if folder is not None and (folder / "manifest.json").is_file():
            yield folder


def _of_run(root: Path, recipe: str, digest: str) -> Path | None:
    """What the candidate's run keeps, fetched once; None where there is no run, or an older one."""
    target = root / ".glmops" / "work" / "promote" / "compared" / digest
    if not target.is_dir():
        with connected(root) as client:
            experiment = find_experiment(client, recipe)
            run = find_run(client, experiment, digest, "candidate") if experiment else None
            if run is None or not client.list_artifacts(run.info.run_id, EVALUATION):
                return None
            with fresh_folder(target) as draft:
                for part in ("manifest.json", EVALUATION):
                    client.download_artifacts(run.info.run_id, part, str(draft))
    _verify(target / "manifest.json", target / EVALUATION, digest)
    return target / EVALUATION


def _verify(manifest: Path, folder: Path, digest: str) -> None:
    recorded = read_json(manifest)
    if sha256_json(recorded) != digest:
        raise IntegrityError(
            manifest, "not the manifest of this digest", got=digest[:12], do="Restore the file."
        )
    for path in sorted(folder.iterdir()):
        known = recorded["files"].get(f"evaluation/{path.name}")
        if known is None or known["sha256"] != sha256_file(path):
            do = "Do not use this copy; make it again."
            raise IntegrityError(path, "its bytes are not the recorded ones", do=do)
