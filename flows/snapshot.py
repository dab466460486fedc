"""The user's tree as it is now, in another folder: by git's plumbing, touching nothing of theirs.

Dirty and untracked files come along; the index, the stash and every branch stay as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glmops.errors import MachineError, RecipeError

# A hook, a monitor or a clean-up of the user's must not be set off by a run.
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.splitIndex": "false",
    "gc.auto": "0",
}
_AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "glmops"), ("EMAIL", "glmops@localhost"))
}


@dataclass(frozen=True, slots=True)
class Git:
    """git run in ``folder``, with the user's index or one of its own."""

    folder: Path
    index: Path | None = None

    def __call__(self, *arguments: str, given: bytes = b"") -> str:
        """The output of one command. Raises MachineError with git's own words."""
        settings = [part for key, value in _SETTINGS.items() for part in ("-c", f"{key}={value}")]
        # Inside a hook git sets GIT_DIR and the like, which would lead us elsewhere.
        environment = {key: value for key, value in os.environ.items() if key[:4] != "GIT_"}
        environment |= {"LC_ALL": "C", **_AUTHOR}
        if self.index:
            environment["GIT_INDEX_FILE"] = str(self.index)
        try:
            done = subprocess.run(
                ["git", *settings, *arguments],
                cwd=self.folder,
                env=environment,
                input=given,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise MachineError("git", "no such program", do="Install git.") from None
        if done.returncode != 0:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())
            if "not a git repository" in said:
                raise RecipeError(
                    self.folder,
                    "not a git repository, and a run with -S or --raw takes its copy from git",
                    do="`git init` here (no commit is needed), or edit the recipe instead.",
                )
            raise MachineError(f"git {arguments[0]}", said or "failed", do="Mend what git says.")
        return done.stdout.decode("utf-8", "surrogateescape")

    def path(self, question: str) -> Path:
        return Path(self("rev-parse", question).removesuffix("\n"))

    def find(self, name: str) -> str:
        """The hash of what ``name`` means, or an empty string."""
        try:
            return self("rev-parse", "--quiet", "--verify", name).strip()
        except MachineError:
            return ""

    def names(self) -> set[str]:
        """Every path in the index, from the top of the repository."""
        return set(filter(None, self("ls-files", "-z").split("\0")))


def take(
    root: Path, key: str, folder: Path, *, edits: Mapping[str, bytes], without: Sequence[str]
) -> Path:
    """Snapshot the tree to refs/glmops/runs/KEY and bring ``folder`` to exactly that state.

    Args:
        root: The project root, at or below the top of a git repository.
        key: Names the run; the caller holds its lock.
        folder: Where to check out. What git ignores there (outputs, dvc.lock) stays.
        edits: Path below ``root`` → bytes that replace the file in the snapshot.
        without: Paths below ``root`` left out of the snapshot.
    Returns:
        The folder that is to ``folder`` what ``root`` is to the top of its repository.
    """
    mine = Git(root)
    top, below = mine.path("--show-toplevel"), mine.path("--show-prefix")
    last = root / ".glmops" / "locks" / f"{key}.index"
    draft = last.with_suffix(".draft")
    for leftover in (draft, draft.with_name(f"{draft.name}.lock")):
        leftover.unlink(missing_ok=True)  # of a killed run
    users = mine.path("--absolute-git-dir") / "index"
    if users.is_file():
        # So that git need not hash again what it knows. With the time of the file, from which git
        # tells whether a file of the same size may have changed since.
        shutil.copy2(users, draft)

    git = Git(top, draft)
    inside = Git(root, draft)
    inside("add", "--all", "--", ".")
    inside("--literal-pathspecs", "rm", "-rqf", "--cached", "--ignore-unmatch", "--", *without)
    for path, content in edits.items():
        blob = git("hash-object", "-w", "--stdin", given=content).strip()
        entry = f"100644 {blob}\t{(below / path).as_posix()}\0"
        git("update-index", "-z", "--index-info", given=entry.encode())
    _commit(git, key)
    _check_out(git, last, folder)
    draft.replace(last)
    return folder / below


def holds(root: Path, path: str) -> bool:
    """Whether a snapshot has anything at ``path`` below ``root``: tracked, or not ignored."""
    shown = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return bool(Git(root)("--literal-pathspecs", *shown, "--", path))


def _commit(git: Git, key: str) -> None:
    """Point the run's ref at the tree; the same tree on the same HEAD keeps its commit."""
    ref, tree, head = f"refs/glmops/runs/{key}", git("write-tree").strip(), git.find("HEAD")
    if git.find(f"{ref}^{{tree}}") == tree and git.find(f"{ref}^1") == head:
        return
    parents = ["-p", head] if head else []
    commit = git("commit-tree", tree, *parents, "-m", f"glmops run {key}").strip()
    git("update-ref", ref, commit)


def _check_out(git: Git, last: Path, folder: Path) -> None:
    """Write what git's index names; remove what only the last run's index named.

    The last index stands as long as the folder is whole; without it the folder is what a killed
    run left, and is made anew (its outputs come back from DVC's cache).
    """
    if last.is_file():
        gone = Git(git.folder, last).names() - git.names()
        last.unlink()
    else:
        gone = set()
        if folder.exists():
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / name for name in gone):
        # Never through a link: behind one lie the user's own rows.
        if path.parent.resolve().is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)
    git("checkout-index", "--all", "--force", "--quiet", f"--prefix={folder}/")
