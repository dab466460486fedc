"""A candidate's MLflow run: found by its digest, restored when deleted, replayed when lost."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from glmops.promote.adoption import adopt, known_points
from glmops.promote.connection import (
    chunks,
    connected,
    experiment_id,
    find_run,
    run_for,
    set_tags,
)
from glmops.promote.package import Package
from glmops.storage import read_json, read_jsonl, sha256_file

EVALUATION = "evaluation"
"""The run's folder of artifacts that holds what the candidate answered, and its scores."""
PREDICTIONS = "predictions.json"
"""The same answers as a table that MLflow shows in its evaluation view."""
TABLE_COLUMNS = ("id", "task", "prompt", "target", "answer", "finished")
VERDICT = "glmops.verdict"
GATE = "glmops.gate"
"""Hash of the verdict file that the run shows; when another is due, the run is written again."""
CURVES = (
    "loss", "learning_rate", "dev_loss", "dev_exact", "tokens_per_second", "gradient_norm",
)  # fmt: skip
PARAM_LIMIT = 6000
"""Characters that MLflow keeps of one parameter."""


def record_run(
    root: Path,
    package: Package,
    history: Sequence[Mapping[str, str]],
    *,
    training: str | None,
    verdict_file: Path,
    report_file: Path,
    evaluated: Path,
    actor: str,
    commit: str,
    replayed: bool,
) -> tuple[str, bool]:
    """Make MLflow show this candidate: parameters, metrics, loss curves, report.

    Args:
        history: Rows of the train stage's history.csv and progress.csv.
        training: What the candidate's lineage calls its training: a run that MLflow saw live
            becomes this candidate's, and what it has of the history is not written again.
        verdict_file: verdict.json as registration wrote it; its ``outcome`` becomes a tag.
        evaluated: The folder of the candidate's evaluation.
        commit: What ``commit_of`` found, or an empty string.
        replayed: The ledger knows this candidate, so a run that is absent was lost: say so.
    Returns:
        The run's id, and whether anything had to be written.
    """
    recipe = package.manifest["recipe"]
    gate = sha256_file(verdict_file)
    with connected(root) as client:
        experiment = experiment_id(client, root, recipe)
        tags = {"glmops.replayed": "true"} if replayed else {}
        tags |= {"mlflow.source.git.commit": commit} if commit else {}
        if training and find_run(client, experiment, package.digest, "candidate") is None:
            adopt(client, recipe, training, package.digest, tags)
        run = run_for(client, experiment, package.digest, "candidate", actor=actor, tags=tags)
        run_id = run.info.run_id
        whole = run.info.status == "FINISHED" and run.data.tags.get(GATE) == gate
        if whole:
            return run_id, run.info.lifecycle_stage != "active"
        # Everything is logged with the run's own start time, so that logging again after a kill
        # writes the same points, not more of them.
        moment = run.info.start_time
        known = known_points(client, run)
        _log_numbers(client, run_id, package.manifest, history, moment, known)
        for file in (verdict_file, report_file):
            client.log_artifact(run_id, str(file))
        for name in ("manifest", "scorecard"):
            value = package.manifest if name == "manifest" else package.manifest["scorecard"]
            client.log_text(run_id, _text(value), f"{name}.json")
        _log_evaluation(client, run_id, package.manifest, evaluated)
        outcome = read_json(verdict_file)["outcome"]
        set_tags(
            client,
            run_id,
            {
                VERDICT: outcome,
                GATE: gate,
                "mlflow.loggedArtifacts": _text([{"path": PREDICTIONS, "type": "table"}]),
                "mlflow.note.content": f"{outcome}. {package.manifest['description']}",
            },
        )
        client.set_terminated(run_id, "FINISHED")
        return run_id, True


def commit_of(root: Path, workspace: Path) -> str:
    """The git commit that a run's files came from; "…-dirty" when uncommitted edits were in them.

    dvc.lock is not an edit: the run itself writes it. A run in a snapshot has a commit of its own,
    which holds those edits. Empty outside of git.
    """
    if workspace != root:
        return _git(root, "rev-parse", "--verify", "--quiet", f"refs/glmops/runs/{workspace.name}")
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    edited = commit and _git(root, "diff", "--name-only", "HEAD", "--", ".", ":(exclude)dvc.lock")
    return f"{commit}-dirty" if edited else commit


def _git(root: Path, *arguments: str) -> str:
    """What git answers; empty where it has no answer, or where there is no git."""
    try:
        said = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""


def flatten(value: Any, prefix: str = "", *, joint: str = ".") -> Iterator[tuple[str, Any]]:
    """Nested mappings as (path, leaf); a list is a leaf."""
    if not isinstance(value, Mapping):
        yield prefix, value
        return
    for key, inner in value.items():
        yield from flatten(inner, f"{prefix}{joint}{key}" if prefix else str(key), joint=joint)


def _log_numbers(
    client: Any,
    run_id: str,
    manifest: Mapping[str, Any],
    history: Sequence[Mapping[str, str]],
    moment: int,
    known: set[tuple[str, int]],
) -> None:
    from mlflow.entities import Metric, Param

    params = [Param(key, _text(leaf)[:PARAM_LIMIT]) for key, leaf in flatten(manifest["sections"])]
    metrics = [
        Metric(key, float(leaf), moment, 0)
        for key, leaf in flatten(_of_tasks(manifest["scorecard"]), joint="/")
        if isinstance(leaf, int | float) and math.isfinite(leaf)
    ]
    metrics += [
        Metric(name, value, moment, step)
        for name, value, step in _curves(history)
        if (name, step) not in known
    ]
    for batch in chunks(params, 100):
        client.log_batch(run_id, params=batch)
    for batch in chunks(metrics, 1000):
        client.log_batch(run_id, metrics=batch)


def _of_tasks(scorecard: Mapping[str, Any]) -> dict[str, Any]:
    """The scorecard without its tables by class: those are hundreds of numbers under names that
    MLflow may refuse, and stay in scorecard.json."""
    return {
        task: {key: value for key, value in values.items() if key != "classes"}
        for task, values in scorecard.items()
    }


def _log_evaluation(client: Any, run_id: str, manifest: Mapping[str, Any], evaluated: Path) -> None:
    """The files of the evaluation, as the manifest names them, and the answers as a table.

    Not by ``log_table``: a run that is logged again after a kill would have every row twice.
    """
    for name in manifest["files"]:
        if name.startswith(f"{EVALUATION}/"):
            client.log_artifact(run_id, str(evaluated / Path(name).name), EVALUATION)
    rows = read_jsonl(evaluated / "answers.jsonl")
    data = [[row[column] for column in TABLE_COLUMNS] for row in rows]
    table = {"columns": TABLE_COLUMNS, "data": data}
    client.log_text(run_id, json.dumps(table, ensure_ascii=False), PREDICTIONS)


def _curves(history: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, float, int]]:
    """Each filled number of the history as (phase/column, value, step)."""
    for row in history:
        for column in CURVES:
            value = float(row.get(column) or math.nan)
            if math.isfinite(value):
                yield f"{row['phase']}/{column}", value, int(row["step"])


def _text(value: Any) -> str:
    return (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    )
