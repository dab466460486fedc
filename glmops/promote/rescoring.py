"""The champion on other test rows than it was scored on: its stored package answers them.

Two sets of scores compare only when they are scores of the same rows by the same metrics. Where the
champion's are not, a process scores it again (`pipelines.rescore`), in a small project of its own:

    .glmops/work/promote/rescored/CHAMPION/KEY/
        dvc.yaml, recipes/NAME.yaml      the candidate's evaluate section, without baselines
        data/prepared/NAME               link to the candidate's rows
        models/NAME                      link to the champion's stored checkpoint
        stored                           link to the champion's stored answers, where the rows are
                                         the same and only the metrics are others: nothing is
                                         answered then
        reports/NAME/evaluate            what the process wrote; found again the next time

A killed one goes on where it was, as any evaluation does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glmops.errors import InputError, IntegrityError, MachineError, RefusedError
from glmops.promote import package, registry
from glmops.promote.package import Package
from glmops.recipe import Promote
from glmops.records import Score
from glmops.storage import Layout, read_json, sha256_file, sha256_json, write_json, write_text

STORED = "stored"


def package_of(root: Path, recipe: str, champion: str) -> Path:
    """The champion's package, every file hashed again.

    Raises:
        RefusedError: It is gone, or its bytes are not the recorded ones.
    """
    try:
        return registry.find_package(root, recipe, champion)
    except (InputError, IntegrityError) as error:
        raise RefusedError(
            f"{recipe}: the champion {champion[:12]}",
            f"its package cannot be used, so nothing can be compared with it ({error})",
            do="Restore the registry's files, or roll back to a champion that is whole.",
        ) from error


def rescored(
    root: Path, rules: Promote, champion: str, stored: Path, candidate: Package, prepared: Path
) -> list[Score]:
    """The champion's scores on the candidate's test rows, from the stored ones or made now.

    Args:
        stored: The champion's package.
        prepared: Where the rows lie that the candidate was evaluated on; else they are looked for
            in the project and in its runs.
    Raises:
        RefusedError: The rows are not there any more, or the champion cannot answer them.
        MachineError: The process that answers ended.
    """
    name = candidate.manifest["recipe"]
    section = {**candidate.manifest["sections"]["evaluate"], "baselines": []}
    key = sha256_json({"test": candidate.test_set, "evaluate": section})
    place = root / ".glmops" / "work" / "promote" / "rescored" / champion / key
    layout = Layout(place, name)
    where = f"{name}: the champion {champion[:12]}"
    if _test_of(layout) != candidate.test_set:
        rows = _rows(root, candidate, prepared, where)
        theirs = read_json(stored / "manifest.json")["test"]
        same_rows = theirs["sha256"] == candidate.test_set["sha256"]
        _lay_out(layout, candidate, rules, section, rows, stored, only_scores=same_rows)
        _run(layout, where)
    if _test_of(layout) != candidate.test_set:
        raise RefusedError(
            where,
            "scored again, it has not the rows and metrics that the candidate was scored by",
            do=f"Run `glmops run {name} --from evaluate`, which scores the candidate again.",
        )
    return package.evaluation(layout.reports("evaluate")).scores


def _test_of(layout: Layout) -> Any:
    """What the scores in a place are scores of; None before they are whole."""
    card = layout.reports("evaluate") / "scorecard.json"
    return read_json(card)["test"] if card.is_file() else None


def _rows(root: Path, candidate: Package, prepared: Path, where: str) -> Path:
    """The folder with the rows that the candidate's manifest names by their hashes."""
    split = candidate.manifest["sections"]["evaluate"]["split"]
    wanted = {name: candidate.manifest["data"][name] for name in ("train", split)}
    for folder in _places(root, candidate.manifest["recipe"], prepared):
        files = {name: folder / f"{name}.parquet" for name in wanted}
        if all(file.is_file() for file in files.values()) and wanted == {
            name: sha256_file(file) for name, file in files.items()
        }:
            return folder.resolve()
    raise RefusedError(
        where,
        "it was scored on another test set, and the candidate's rows are not here any more, so it "
        "cannot answer them",
        do=f"Run `glmops run {candidate.manifest['recipe']}` as the candidate was run.",
    )


def _places(root: Path, name: str, prepared: Path) -> Iterator[Path]:
    yield prepared
    yield Layout(root, name).prepared
    yield from sorted((root / ".glmops" / "runs").glob(f"*/data/prepared/{name}"))


def _lay_out(
    layout: Layout,
    candidate: Package,
    rules: Promote,
    section: Mapping[str, Any],
    rows: Path,
    stored: Path,
    *,
    only_scores: bool,
) -> None:
    recipe = recipe_of(candidate.manifest, section, rules)
    write_json(layout.root / "recipes" / f"{layout.name}.yaml", recipe)  # JSON is YAML
    write_text(layout.root / "dvc.yaml", "stages: {}\n")
    _link(layout.prepared, rows)
    _link(layout.model, stored / "model")
    if only_scores:
        _link(layout.root / STORED, stored / "evaluation")


def recipe_of(
    manifest: Mapping[str, Any], section: Mapping[str, Any], rules: Promote
) -> dict[str, Any]:
    """The recipe that a manifest was made by, as a file would have it, with another evaluate."""
    whole = {
        "description": manifest["description"],
        **manifest["sections"],
        "evaluate": section,
        "promote": rules.model_dump(mode="json"),
    }
    return {key: _given(value) for key, value in whole.items()}


def _given(value: Any) -> Any:
    """Without the settings that nobody gave: of some pairs only one may be named."""
    if isinstance(value, dict):
        return {key: _given(each) for key, each in value.items() if each is not None}
    return [_given(each) for each in value] if isinstance(value, list) else value


def _link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(target.resolve(), target_is_directory=True)


def _run(layout: Layout, where: str) -> None:
    import glmops

    error = layout.root / "error.json"
    error.unlink(missing_ok=True)
    code = str(Path(str(glmops.__file__)).parents[1])
    path = os.pathsep.join(filter(None, (code, os.environ.get("PYTHONPATH"))))
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "GLMOPS_STAGE_ERROR": str(error),
        "GLMOPS_DRIVER_PID": str(os.getpid()),
    }
    command = [sys.executable, "-m", "pipelines.rescore", layout.name]
    # Its bars are for people; our own standard output may have to be one JSON document.
    done = subprocess.run(
        command, cwd=layout.root, env=environment, stdout=subprocess.DEVNULL, check=False
    )
    if not done.returncode:
        return
    known = read_json(error) if error.is_file() else {"exit_code": 1, "message": ""}
    because = known["message"] or f"its process ended with code {done.returncode}"
    what = f"it could not be scored on the candidate's test rows ({because})"
    if known["exit_code"] == 1:
        raise MachineError(where, what, do="Mend that, then give the same command again.")
    raise RefusedError(where, what, do="Mend that, or roll back to a champion that can answer.")
