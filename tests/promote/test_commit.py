"""Which commit a run says it came from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from glmops.promote.runs import commit_of


def _git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text("a: 1\n")
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "-A")
    _git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_clean_tree_is_its_commit(repository: Path) -> None:
    assert commit_of(repository, repository) == _git(repository, "rev-parse", "HEAD")


def test_an_uncommitted_edit_is_told(repository: Path) -> None:
    (repository / "recipe.yaml").write_text("a: 2\n")
    head = _git(repository, "rev-parse", "HEAD")
    assert commit_of(repository, repository) == f"{head}-dirty"


def test_the_lock_file_that_the_run_itself_wrote_is_no_edit(repository: Path) -> None:
    (repository / "dvc.lock").write_text("stages: {prepare@demo: {}}\n")
    assert commit_of(repository, repository) == _git(repository, "rev-parse", "HEAD")


def test_a_snapshot_has_a_commit_of_its_own(repository: Path) -> None:
    _git(repository, "commit", "--allow-empty", "-qm", "snapshot")
    _git(repository, "update-ref", "refs/glmops/runs/demo-1", "HEAD")
    _git(repository, "reset", "-q", "--hard", "HEAD~1")
    found = commit_of(repository, repository / ".glmops" / "runs" / "demo-1")
    assert found == _git(repository, "rev-parse", "refs/glmops/runs/demo-1")


def test_outside_of_git_and_before_the_first_commit_there_is_none(tmp_path: Path) -> None:
    assert commit_of(tmp_path, tmp_path) == ""
    _git(tmp_path, "init", "-q")
    assert commit_of(tmp_path, tmp_path) == ""
