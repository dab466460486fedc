"""Two versions of a prepared set: the work tree's, and that of a git revision out of DVC's cache.

An older version is not checked out: its files are linked from the cache into a scratch folder, so
neither the user's files nor git's index or DVC's records are touched.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flows.graph import ask, in_order
from flows.snapshot import Git
from glmops.errors import InputError, RecipeError
from glmops.recipe import load_recipe
from glmops.storage import Layout

if TYPE_CHECKING:
    from dvc.repo import Repo

LOCK = "dvc.lock"


@dataclass(frozen=True, slots=True)
class Versions:
    """``old`` and ``new`` are folders to read from, here for as long as the context is open."""

    old: Path
    old_where: str
    new: Path
    new_where: str
    notes: tuple[str, ...]
    """What the reader must know about what is compared."""


@contextmanager
def versions(root: Path, name: str, revision: str) -> Iterator[Versions]:
    """The prepared set of ``name`` at a git revision, and the one in the work tree.

    The work tree's is what lies in data/prepared/NAME; where that folder is absent (a fresh clone),
    what dvc.lock records.

    Raises:
        RecipeError: No such recipe or revision, no git repository, or no set at the revision.
        InputError: The work tree has no set, or another one than dvc.lock says; or a version is
            not in DVC's cache.
    """
    load_recipe(root, name)
    commit = _commit(root, revision)
    folder, path = Layout(root, name).prepared, f"data/prepared/{name}"
    then, now = _recorded(_lock_at(root, commit), path), _recorded(_lock_here(root), path)
    short = revision if commit.startswith(revision) else f"{revision} ({commit[:7]})"
    if then is None:
        raise RecipeError(
            f"{LOCK} at {short}",
            "no prepared set of this recipe was recorded there",
            got=name,
            do=f"Name a revision whose {LOCK} has it: `git log --oneline -- {LOCK}` lists them.",
        )
    if now is None and not folder.is_dir():
        do = f"Make it: `dvc repro prepare@{name}`, or `glmops run {name}`."
        raise InputError(path, "never prepared", do=do)
    with tempfile.TemporaryDirectory(prefix="glmops-diff-") as scratch:
        old, new, notes = Path(scratch, "old"), folder, []

        def question(repo: Repo) -> None:
            nonlocal new
            if not folder.is_dir():
                new = Path(scratch, "new")
                _link(repo, str(now), new, path, LOCK)
                notes.append(f"{path} is not checked out: read as {LOCK} records it")
            elif now is not None and _hash(repo, folder) != now:
                raise InputError(
                    path,
                    f"holds something else than {LOCK} records: edited, half-written, or of "
                    "another commit",
                    do=f"`dvc repro prepare@{name}` makes it anew, `dvc checkout {path}` brings "
                    "back what is recorded.",
                )
            notes.extend(_stale(repo, name))
            _link(repo, then, old, path, short)

        ask(root, question)
        where = f"{path} at {short}"
        yield Versions(old, where, new, path, tuple(notes))


def _commit(root: Path, revision: str) -> str:
    """The hash of the commit that ``revision`` means."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        do = "`git init` here, and commit dvc.lock after each run that is to be compared with."
        raise RecipeError(root, "not a git repository, so there is no older version", do=do)
    found = Git(root).find(f"{revision}^{{commit}}") if not revision.startswith("-") else ""
    if not found:
        do = "`git log --oneline` lists the commits; branches and tags are good, too."
        raise RecipeError("REV", "git knows no such commit", got=revision, do=do)
    return found


def _lock_at(root: Path, commit: str) -> str:
    """dvc.lock as committed; empty if it was not."""
    git = Git(root)
    place = f"{commit}:{git('rev-parse', '--show-prefix').strip()}{LOCK}"
    return git("cat-file", "blob", place) if git.find(place) else ""


def _lock_here(root: Path) -> str:
    path = root / LOCK
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _recorded(lock: str, path: str) -> str | None:
    """The hash that a lock file's text gives the output ``path``."""
    try:
        content: Any = yaml.safe_load(lock) or {}
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f"{LOCK}:{place.line + 1}" if place else LOCK
        what = "not YAML, as after a merge that is not finished"
        raise RecipeError(where, what, do="Finish the merge, or restore it from git.") from None
    stages = content.get("stages") or {}
    outs = (out for stage in stages.values() for out in stage.get("outs", ()))
    return next((out["md5"] for out in outs if out["path"] == path and "md5" in out), None)


def _link(repo: Repo, digest: str, folder: Path, path: str, where: str) -> None:
    """Links to the files of a cached folder. Reads DVC's cache as dvc/output.py does at 3.67.1."""
    from dvc_data.hashfile import load
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_objects.errors import ObjectFormatError

    cache = repo.cache.local
    missing = InputError(
        f"{path} at {where}",
        "DVC's cache here does not have this version (whole)",
        got=digest,
        do=f"Fetch it: `dvc fetch --all-commits {path}`, which needs a DVC remote it was pushed "
        "to. What `dvc gc` removed and no remote has is gone.",
    )
    try:
        tree: Any = load(cache, HashInfo("md5", digest))
    except (FileNotFoundError, ObjectFormatError):
        raise missing from None
    folder.mkdir()
    for key, _, content in tree:
        target = Path(cache.oid_to_path(content.value))
        if not target.is_file():
            raise missing
        link = folder.joinpath(*key)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(target, link)


def _hash(repo: Repo, folder: Path) -> str:
    """What DVC would record for the folder as it is; unchanged files are not read again."""
    from dvc.fs import localfs
    from dvc_data.hashfile.build import build

    _, _, found = build(
        repo.cache.local, str(folder), localfs, "md5", dry_run=True, ignore=repo.dvcignore
    )
    return str(found.oid)


def _stale(repo: Repo, name: str) -> Iterator[str]:
    """A word of warning when raw rows, recipe or code are newer than the prepared set."""
    found = [stage for stage, _ in in_order(repo, name) if stage.name == f"prepare@{name}"]
    if any(stage.changed_stage() or stage.changed_deps() for stage in found):
        yield (
            "rows, recipe or code have changed since this set was prepared: "
            f"`dvc repro prepare@{name}` first, if you mean them as they are now"
        )
