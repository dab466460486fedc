"""Registering a candidate: gate, report, MLflow run, version, ledger. Run twice, it finds all that.

The order is: files, MLflow, ledger. So an entry in the ledger says that the rest was there.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmops.errors import InputError
from glmops.promote import ledger, package, registry
from glmops.promote.connection import writing
from glmops.promote.gate import Verdict
from glmops.promote.ledger import Entry
from glmops.promote.package import Package
from glmops.promote.runs import commit_of, record_run
from glmops.promote.standing import (
    Standing,
    judge,
    present_actor,
    record_gate,
    standing,
)
from glmops.promote.tracking import candidates_of
from glmops.recipe import Recipe
from glmops.storage import Layout, read_json, write_json, write_text


@dataclass(frozen=True, slots=True)
class Registration:
    """What became of a candidate. ``already``: everything was there, nothing was written."""

    digest: str
    verdict: Verdict
    report: Path
    already: bool
    name_of_model: str


def register(
    root: Path, layout: Layout, recipe: Recipe, *, overrides: Mapping[str, Any]
) -> Registration:
    """Gate, report, MLflow run, ledger; and a candidate version when the gate passed it.

    Args:
        root: The user's project: registry, ledger and the rules that count are there.
        layout: Where the stages wrote: the project, or a checkout of it.
        overrides: What this run changed against the recipe's file, as JSON.
    Raises:
        InputError: A stage output is missing.
        RefusedError: A rule compares with the champion, and it cannot be compared with.
    """
    sections = package.sections_of(recipe)
    candidate = package.manifest_of(layout, sections, overrides=overrides)
    digest, actor = candidate.digest, present_actor()
    # Before the lock is taken: a champion that has to answer other test rows first takes minutes,
    # in which nobody else could decide anything.
    before = standing(root, layout.name)
    early = _judged(root, layout, before, candidate)
    with writing(root):
        now = standing(root, layout.name)
        known = any(entry.digest == digest for entry in now.entries)
        same = (now.rules_hash, now.opponent(digest)) == (
            before.rules_hash,
            before.opponent(digest),
        )
        verdict = early if same else _judged(root, layout, now, candidate)
        wrote = _write_report(root, layout, now, candidate, verdict)
        run_id, logged = record_run(
            root,
            candidate,
            [*_history(layout), *_progress(layout)],
            training=read_json(layout.model / "lineage.json").get("training"),
            verdict_file=_verdict_file(layout),
            report_file=_report_file(layout),
            evaluated=layout.reports("evaluate"),
            actor=actor,
            commit=commit_of(root, layout.root),
            replayed=known,
        )
        stored = verdict.passed and _store(root, layout, sections, overrides, digest, run_id)
        gated = record_gate(root, now, digest, verdict, actor)
        new = verdict.passed and _record_registered(root, now, digest, actor)
    already = not (wrote or logged or stored or gated or new)
    return Registration(digest, verdict, _report_file(layout), already, candidates_of(layout.name))


def already_registered(
    root: Path, layout: Layout, recipe: Recipe, *, overrides: Mapping[str, Any]
) -> Registration | None:
    """The registration, if all of it is there; None when ``register`` has something to do.

    Starts neither torch nor (with SQLite) MLflow.
    """
    candidate = package.manifest_of(layout, package.sections_of(recipe), overrides=overrides)
    now = standing(root, layout.name)
    verdict = now.verdict(candidate.digest)
    if verdict is None or not _report_shows(layout, now, candidate, verdict):
        return None
    if verdict.passed and not _is_registered(now.entries, candidate.digest):
        return None
    if not registry.glance(root, layout.name, candidate.digest, with_version=verdict.passed):
        return None
    model = candidates_of(layout.name)
    return Registration(candidate.digest, verdict, _report_file(layout), True, model)


def _store(
    root: Path,
    layout: Layout,
    sections: Mapping[str, Any],
    overrides: Mapping[str, Any],
    digest: str,
    run_id: str,
) -> bool:
    folder = root / ".glmops" / "work" / "promote" / "package"
    built = package.build(layout, sections, overrides=overrides, out=folder)
    if built.digest != digest:
        do = "Let the other run end, then run the recipe again."
        raise InputError(layout.model, "the stage outputs changed while they were read", do=do)
    wrote = registry.ensure_version(root, layout.name, digest, folder, run_id)
    shutil.rmtree(folder)
    return wrote


def _record_registered(root: Path, now: Standing, digest: str, actor: str) -> bool:
    entry = Entry(
        kind="register",
        recipe=now.recipe,
        digest=digest,
        actor=actor,
        decision="candidate",
        champion=now.opponent(digest),
        rules_hash=now.rules_hash,
    )
    return ledger.append(root, entry, unless=lambda entries: _is_registered(entries, digest))


def _is_registered(entries: Sequence[Entry], digest: str) -> bool:
    return any(entry.kind == "register" and entry.digest == digest for entry in entries)


def _write_report(
    root: Path, layout: Layout, now: Standing, candidate: Package, verdict: Verdict
) -> bool:
    """report.html, then verdict.json, which says that the report is whole."""
    if _report_shows(layout, now, candidate, verdict):
        return False
    from glmops.promote.report import render
    from glmops.promote.stored import answers_to

    opponent = now.opponent(candidate.digest)
    theirs = opponent and answers_to(root, now.recipe, opponent, candidate.test_set)
    ran = (_history(layout), _progress(layout))
    page = render(layout, candidate, verdict, opponent, *ran, theirs or None)
    write_text(_report_file(layout), page)
    write_json(_verdict_file(layout), _verdict_content(now, candidate, verdict))
    return True


def _report_shows(layout: Layout, now: Standing, candidate: Package, verdict: Verdict) -> bool:
    file = _verdict_file(layout)
    if not (file.is_file() and _report_file(layout).is_file()):
        return False
    return bool(read_json(file) == _verdict_content(now, candidate, verdict))


def _verdict_content(now: Standing, candidate: Package, verdict: Verdict) -> dict[str, Any]:
    return {
        "recipe": now.recipe,
        "digest": candidate.digest,
        "champion": now.opponent(candidate.digest),
        "rules": now.rules.model_dump(mode="json"),
        "rules_hash": now.rules_hash,
        **verdict.as_json(),
    }


def _verdict_file(layout: Layout) -> Path:
    return layout.reports("promote") / "verdict.json"


def _report_file(layout: Layout) -> Path:
    return layout.reports("promote") / "report.html"


def _judged(root: Path, layout: Layout, now: Standing, candidate: Package) -> Verdict:
    if known := now.verdict(candidate.digest):
        return known
    return judge(root, now, candidate, layout.reports("evaluate"), layout.prepared)


def _history(layout: Layout) -> list[dict[str, str]]:
    path = layout.reports("train") / "history.csv"
    if not path.is_file():
        raise InputError(path, "no such file", do="Run the train stage.")
    return _rows(path)


def _progress(layout: Layout) -> list[dict[str, str]]:
    """What only this training's machine knows (speed); none where the stage wrote none."""
    path = layout.reports("train") / "progress.csv"
    return _rows(path) if path.is_file() else []


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
