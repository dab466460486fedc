"""Where a run happens: in the project itself, or in a copy when its values differ from the files.

`-S` and `--raw` never edit the user's files. Their tree is snapshotted and checked out below
``.glmops/runs/KEY``, where the edits are made; it shares the project's DVC cache, so whatever
equals an earlier run is not computed again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flows import snapshot
from flows.cache import checkout_sources, share_cache
from flows.overrides import as_yaml, edited_params, edited_recipe, overridden
from glmops.errors import MachineError, RecipeError
from glmops.recipe import Recipe, load_params, load_recipe, raw_path, smoke, smoked
from glmops.recipe.smoke import smoke_raw
from glmops.storage import link_raw, sha256_json, write_text


@dataclass(frozen=True, slots=True)
class Workspace:
    """``root`` is the user's project, ``path`` where the stages run: the same for a plain run."""

    root: Path
    name: str
    path: Path
    key: str
    overrides: Mapping[str, Any]
    raw: str | None

    @property
    def recorded(self) -> dict[str, Any]:
        """What the candidate's manifest says of this run: rows by name, not by path."""
        return {**self.overrides, **({"raw": Path(self.raw).name} if self.raw else {})}


def planned(root: Path, name: str, settings: Sequence[str], raw: str | None) -> Workspace:
    """Check everything that can be wrong with a run's arguments; write nothing.

    Args:
        settings: Texts of the form section.key=value.
        raw: A file or folder of rows to use instead of those in params.yaml; a relative path
            starts at the current folder.
    Raises:
        RecipeError: An unknown recipe, key or path, or a value that does not fit.
    """
    recipe, other = load_recipe(root, name), smoked(root, name)
    changes = overridden(root, name, settings)
    if raw is None:
        if other:
            _require_samples(root, smoke_raw(other, recipe.prepare))
        else:
            raw_path(root, name)
        rows = None
    else:
        load_params(root)
        rows = Path(raw).expanduser().resolve()
        if not rows.exists():
            raise RecipeError("--raw", "no such file or folder", got=raw, do="Correct the path.")
    if not changes and rows is None and not other:
        return Workspace(root, name, root, name, {}, None)
    path = None if rows is None else str(rows)
    key = name
    if changes or rows:
        key = f"{name}-{sha256_json({'overrides': changes, 'raw': path})[:8]}"
    return Workspace(root, name, root / ".glmops" / "runs" / key, key, changes, path)


def smoke_of(root: Path, name: str) -> str:
    """The name of the smoke run of recipe ``name``.

    Raises:
        RecipeError: No such recipe, or the name is taken by a file.
    """
    load_recipe(root, name)
    if smoked(root, name):
        return name
    if smoked(root, smoke.of(name)) is None:
        raise RecipeError(
            f"recipes/{smoke.of(name)}.yaml",
            f"has the name of the smoke run of {name}",
            do="Rename it.",
        )
    return smoke.of(name)


@contextmanager
def opened(plan: Workspace) -> Iterator[Workspace]:
    """The workspace of ``plan``, up to date with the user's tree and locked while it is used.

    Taking it twice in one thread is one lock.

    Raises:
        MachineError: The same run is under way in another process.
        RecipeError: A run with overrides outside a git repository.
    """
    state = plan.root / ".glmops"
    (state / "locks").mkdir(parents=True, exist_ok=True)
    if not (state / ".gitignore").exists():
        write_text(state / ".gitignore", "*\n")
    with _locked(plan):
        yield plan if plan.path == plan.root else _copied(plan)


@contextmanager
def _locked(plan: Workspace) -> Iterator[None]:
    path = plan.root / ".glmops" / "locks" / f"{plan.key}.lock"
    lock, owner = FileLock(path, is_singleton=True), path.with_suffix(".pid")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        pid = owner.read_text().strip() if owner.is_file() else "unknown"
        raise MachineError(
            plan.key, f"this run is already running (pid {pid})", do="Wait for it, or stop it."
        ) from None
    try:
        write_text(owner, f"{os.getpid()}\n")
        yield
    finally:
        lock.release()


def _copied(plan: Workspace) -> Workspace:
    """Snapshot and check out with the edits made, then bring in the rows that git does not hold."""
    root, name = plan.root, plan.name
    other = smoked(root, name)
    rows = Path(plan.raw) if plan.raw else None if other else _rows_outside_git(root, name)
    edits, without = {}, ["dvc.lock"]  # the workspace keeps a lock file of its own
    if plan.overrides or other:
        edits[f"recipes/{name}.yaml"] = as_yaml(edited_recipe(root, name, dict(plan.overrides)))
    if other and not rows:
        samples = smoke_raw(other, load_recipe(root, name).prepare)
        edits["params.yaml"] = as_yaml(edited_params(root, name, samples))
    if rows:
        edits["params.yaml"] = as_yaml(edited_params(root, name, f"data/raw/{name}"))
        without += [f"data/raw/{name}", f"data/raw/{name}.dvc"]
    path = snapshot.take(root, plan.key, plan.path, edits=edits, without=without)
    share_cache(root, path)
    _link_bases(root, path, load_recipe(path, name))
    if rows:
        _clear(path / "data" / "raw" / name)
        link_raw(path, name, rows)
    else:
        checkout_sources(path, name)
    return Workspace(root, name, path, plan.key, plan.overrides, plan.raw)


def _require_samples(root: Path, samples: str) -> None:
    if not (root / samples).is_dir():
        raise RecipeError(samples, "the sample rows are not there", do="Restore them from git.")


def _link_bases(root: Path, workspace: Path, recipe: Recipe) -> None:
    """The user's own checkpoints are in no snapshot: gigabytes that the recipe pins by their hash.

    A path that leads out of the project is taken as it is.
    """
    base = recipe.train.base
    paths = [recipe.encode.tokenizer.path, base.path if base.method == "pretrained" else None]
    for path in filter(None, paths):
        mine, theirs = root / path, workspace / path
        if mine == theirs:
            continue
        if theirs.is_symlink():  # of an earlier run
            theirs.unlink()
        if mine.exists() and not theirs.exists():
            theirs.parent.mkdir(parents=True, exist_ok=True)
            theirs.symlink_to(mine.resolve(), target_is_directory=True)


def _rows_outside_git(root: Path, name: str) -> Path | None:
    """The rows of params.yaml if a checkout would lack them: neither in git nor tracked by DVC."""
    listed = load_params(root).recipes[name].raw
    rows = (root / listed).resolve()
    if rows.is_relative_to(root.resolve()):
        tracked = any((root / f"{part}.dvc").is_file() for part in (listed, *Path(listed).parents))
        if tracked or snapshot.holds(root, listed):
            return None
    return rows


def _clear(place: Path) -> None:
    """Rows of an earlier run in this folder must not mix with these. Only links are ever here."""
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        shutil.rmtree(place)
