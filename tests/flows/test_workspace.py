"""A run with other values happens elsewhere, and leaves the user's tree as it was to the byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows import graph, workspace
from flows.workspace import Workspace, opened, planned
from glmops.errors import MachineError, RecipeError
from glmops.recipe import load_recipe
from glmops.storage import sha256_tree, write_text
from toy_project import ROOT, edit, git, make_project

HOSTILE = ["问：a", "a,b", ";touch x", "-rf", "a b", "new\nline", '"quoted"', "x=y", "#c"]


def prepared(root: Path, *settings: str, raw: Path | None = None) -> Workspace:
    """The workspace as a run would use it, its lock given back."""
    with opened(planned(root, "demo", settings, str(raw) if raw else None)) as here:
        return here


def users_state(root: Path) -> tuple[bytes, str, str, dict[str, str]]:
    """The index file, what git status says, the branches and stashes, and every file of theirs."""
    index = root / ".git" / "index"
    first = index.read_bytes() if index.is_file() else b""
    status = git(root, "--no-optional-locks", "status", "--porcelain", "-z")
    refs = git(root, "for-each-ref", "refs/heads", "refs/tags", "refs/stash", "refs/exps")
    own = ("data", "code", "recipes", "notes")
    files = {name: digest for part in own for name, digest in sha256_tree(root / part).items()}
    return first, status, refs, files


def dirty(root: Path) -> None:
    """Edited, staged, staged and edited again, deleted, and untracked under hostile names."""
    edit(root / "data" / "samples" / "rows.txt", "一", "零")
    (root / "notes").mkdir()
    (root / "notes" / "staged.txt").write_text("one")
    git(root, "add", "notes/staged.txt")
    (root / "notes" / "staged.txt").write_text("two")
    (root / "code" / "train.py").unlink()
    for name in HOSTILE:
        (root / "notes" / name).write_text(name)


@pytest.mark.parametrize("commit", [True, False], ids=["committed", "no commit at all"])
def test_the_users_tree_and_index_stay_as_they_are(tmp_path: Path, commit: bool) -> None:
    root = make_project(tmp_path / "toy", commit=commit)
    dirty(root)
    before = users_state(root)
    here = prepared(root, "train.seed=2")
    assert users_state(root) == before
    # What they see is what ran: dirty, staged, untracked and deleted alike.
    for part in ("data", "code", "notes"):
        assert sha256_tree(here.path / part) == sha256_tree(root / part)
    assert load_recipe(here.path, "demo").train.seed == 2
    assert load_recipe(root, "demo").train.seed == 1
    snapshot = git(root, "ls-tree", "-rz", "--name-only", f"refs/glmops/runs/{here.key}")
    assert {f"notes/{name}" for name in HOSTILE} <= set(snapshot.split("\0"))


def test_a_repository_in_the_middle_of_a_conflict_can_run(toy: Path) -> None:
    commit = ("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam")
    git(toy, "checkout", "-qb", "side")
    edit(toy / "code" / "train.py", "only", "side")
    git(toy, *commit, "side")
    git(toy, "checkout", "-q", "-")
    edit(toy / "code" / "train.py", "only", "main")
    git(toy, *commit, "main")
    with pytest.raises(subprocess.CalledProcessError):
        git(toy, "-c", "user.name=t", "-c", "user.email=t@e.org", "merge", "-q", "side")
    before = users_state(toy)
    here = prepared(toy, "train.seed=2")
    assert users_state(toy) == before
    assert (here.path / "code" / "train.py").read_text() == (toy / "code" / "train.py").read_text()


def test_a_project_below_the_top_of_its_repository_can_run(tmp_path: Path) -> None:
    root = make_project(tmp_path / "mono" / "sub", commit=False)
    shutil.rmtree(root / ".git")
    git(tmp_path / "mono", "init", "-q")
    here = prepared(root, "train.seed=2")
    assert load_recipe(here.path, "demo").train.seed == 2
    assert graph.forecast(here.path, "demo")["prepare@demo"] == "run"


def test_equal_changes_are_one_run_and_others_another(toy: Path) -> None:
    def key(*settings: str, raw: str | None = None) -> str:
        return planned(toy, "demo", settings, raw).key

    assert key("train.seed=2", "evaluate.split=dev") == key("evaluate.split=dev", "train.seed=2")
    assert key("train.seed=2") == key("train.seed= 2")
    rows = str(toy / "data" / "samples")
    keys = [key("train.seed=2"), key("train.seed=3"), key(raw=rows), key("train.seed=2", raw=rows)]
    assert len(set(keys)) == 4
    assert all(key.startswith("demo-") and len(key) == len("demo-") + 8 for key in keys)
    assert key() == "demo"


def test_a_plain_run_happens_in_the_project_itself(toy: Path) -> None:
    assert prepared(toy).path == toy


def test_the_workspace_follows_the_tree(toy: Path) -> None:
    (toy / "code" / "old.py").write_text("")
    (toy / "code" / "turns").write_text("a file")
    here = prepared(toy, "train.seed=2")
    assert (here.path / "code" / "old.py").is_file()
    (toy / "code" / "old.py").unlink()
    (toy / "code" / "turns").unlink()
    (toy / "code" / "turns").mkdir()
    (toy / "code" / "turns" / "into-a-folder").write_text("")
    edit(here.path / "code" / "train.py", "only", "edited in the workspace")
    again = prepared(toy, "train.seed=2")
    assert again.path == here.path
    assert sha256_tree(again.path / "code") == sha256_tree(toy / "code")


def test_the_same_tree_keeps_its_commit_and_a_new_one_stands_on_head(toy: Path) -> None:
    key = prepared(toy, "train.seed=2").key

    def commit() -> str:
        return git(toy, "rev-parse", f"refs/glmops/runs/{key}").strip()

    first = commit()
    prepared(toy, "train.seed=2")
    assert commit() == first
    edit(toy / "code" / "train.py", "only", "just")
    prepared(toy, "train.seed=2")
    assert commit() != first
    assert git(toy, "rev-parse", f"{commit()}^1") == git(toy, "rev-parse", "HEAD")


def test_a_checkout_that_was_killed_is_made_anew(toy: Path) -> None:
    here = prepared(toy, "train.seed=2")
    (toy / ".glmops" / "locks" / f"{here.key}.index").unlink()  # it stands only beside a whole one
    (here.path / "code" / "half-written.py").write_text("")
    leftover = toy / ".glmops" / "locks" / f"{here.key}.draft.lock"
    leftover.write_text("")  # as git leaves it when killed
    prepared(toy, "train.seed=2")
    assert sha256_tree(here.path / "code") == sha256_tree(toy / "code")


def test_what_ran_in_the_project_is_not_run_again_in_a_workspace(built: Path) -> None:
    here = prepared(built, "train.seed=2")
    assert graph.forecast(here.path, "demo")["prepare@demo"] == "restore"
    assert graph.reproduce(here.path, "prepare@demo") == "restore"
    assert graph.forecast(here.path, "demo")["train@demo"] == "run"


@pytest.mark.parametrize("name", HOSTILE[:4])
def test_other_rows_come_through_a_link_whatever_their_name(toy: Path, name: str) -> None:
    rows = toy.parent / "elsewhere" / name
    rows.parent.mkdir()
    rows.write_text("甲\n")
    before = users_state(toy)
    here = prepared(toy, raw=rows)
    linked = here.path / "data" / "raw" / "demo" / name
    assert linked.is_symlink()
    assert linked.read_text() == "甲\n"
    assert graph.reproduce(here.path, "prepare@demo") == "run"
    assert "甲" in (here.path / "data" / "prepared" / "demo" / "out.txt").read_text()
    assert graph.forecast(here.path, "demo")["prepare@demo"] == "keep"
    rows.write_text("乙\n")
    assert graph.forecast(here.path, "demo")["prepare@demo"] == "run"
    assert users_state(toy) == before
    assert here.recorded == {"raw": name}
    assert not (toy.parent / "x").exists()


def test_a_folder_of_other_rows_is_watched_too(toy: Path) -> None:
    rows = toy.parent / "elsewhere"
    rows.mkdir()
    (rows / "a.txt").write_text("甲\n")
    here = prepared(toy, raw=rows)
    graph.reproduce(here.path, "prepare@demo")
    assert graph.forecast(here.path, "demo")["prepare@demo"] == "keep"
    (rows / "b.txt").write_text("乙\n")
    assert graph.forecast(here.path, "demo")["prepare@demo"] == "run"
    # Taking the workspace again, or dropping it, never reaches through the link.
    prepared(toy, raw=rows)
    (toy / ".glmops" / "locks" / f"{here.key}.index").unlink()
    prepared(toy, raw=rows)
    assert sorted(file.name for file in rows.iterdir()) == ["a.txt", "b.txt"]


def test_rows_that_git_ignores_are_linked(toy: Path) -> None:
    """As `glmops new` leaves them: data/raw/NAME with a link in it, which git does not hold."""
    rows = toy.parent / "mine.txt"
    rows.write_text("甲\n")
    (toy / "data" / "raw" / "demo").mkdir(parents=True)
    (toy / "data" / "raw" / "demo" / "mine.txt").symlink_to(rows)
    edit(toy / "params.yaml", "data/samples", "data/raw/demo")
    graph.reproduce(toy, "prepare@demo")
    here = prepared(toy, "train.seed=2")
    assert graph.forecast(here.path, "demo")["prepare@demo"] == "restore"
    assert here.recorded == {"train.seed": 2}


def test_rows_outside_the_project_are_linked(toy: Path) -> None:
    (toy.parent / "shared").mkdir()
    (toy.parent / "shared" / "rows.txt").write_text("甲\n")
    edit(toy / "params.yaml", "data/samples", "../shared/rows.txt")
    here = prepared(toy, "train.seed=2")
    assert graph.reproduce(here.path, "prepare@demo") == "run"
    assert "甲" in (here.path / "data" / "prepared" / "demo" / "out.txt").read_text()


def test_rows_that_dvc_tracks_are_checked_out(toy: Path) -> None:
    (toy / "data" / "raw" / "demo").mkdir(parents=True)
    (toy / "data" / "raw" / "demo" / "rows.txt").write_text("甲\n")
    edit(toy / ".gitignore", "/data/raw/*\n", "/data/raw/*\n!/data/raw/*.dvc\n")
    edit(toy / "params.yaml", "data/samples", "data/raw/demo")
    add = [sys.executable, "-m", "dvc", "add", "-q", "data/raw/demo"]
    subprocess.run(add, cwd=toy, check=True, env={**os.environ, "DVC_NO_ANALYTICS": "1"})
    here = prepared(toy, "train.seed=2")
    rows = here.path / "data" / "raw" / "demo" / "rows.txt"
    assert rows.read_text() == "甲\n"
    assert not rows.is_symlink()
    # Other rows take the place of the tracked ones; both are never mixed.
    other = toy.parent / "other.txt"
    other.write_text("乙\n")
    there = prepared(toy, raw=other)
    linked = sorted(file.name for file in (there.path / "data" / "raw" / "demo").iterdir())
    assert linked == ["other.txt"]


@pytest.mark.parametrize(
    ("settings", "raw", "message"),
    [
        (["train.lr=1"], None, "unknown key"),
        (["promote.min_rows=1"], None, "not a run's to change"),
        ([], "no/such/rows.jsonl", "--raw: no such file or folder, got 'no/such/rows.jsonl'"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    toy: Path, settings: list[str], raw: str | None, message: str
) -> None:
    before = sha256_tree(toy)
    with pytest.raises(RecipeError, match=message) as refusal:
        planned(toy, "demo", settings, raw)
    assert refusal.value.exit_code == 2
    assert sha256_tree(toy) == before
    assert not (toy / ".glmops").exists()


def test_an_unknown_recipe_and_an_unlisted_one_are_told_apart(toy: Path) -> None:
    with pytest.raises(RecipeError, match=r"no such recipe, got 'dmeo'. Known: demo"):
        planned(toy, "dmeo", [], None)
    shutil.copy(toy / "recipes" / "demo.yaml", toy / "recipes" / "mine.yaml")
    with pytest.raises(RecipeError, match=r"params\.yaml: this recipe is not listed"):
        planned(toy, "mine", [], None)


def test_rows_of_params_that_are_gone_are_named(toy: Path) -> None:
    shutil.rmtree(toy / "data" / "samples")
    with pytest.raises(RecipeError, match=r"params\.yaml recipes\.demo\.raw: no such file"):
        planned(toy, "demo", [], None)


def test_changed_values_need_a_git_repository(toy: Path) -> None:
    shutil.rmtree(toy / ".git")
    with pytest.raises(RecipeError, match="not a git repository") as refusal:
        prepared(toy, "train.seed=2")
    assert refusal.value.exit_code == 2
    assert prepared(toy).path == toy


def test_the_same_run_twice_at_once_is_refused_and_another_is_not(toy: Path) -> None:
    hold = (
        "import sys, pathlib\n"
        "from flows.workspace import opened, planned\n"
        "with opened(planned(pathlib.Path(sys.argv[1]), 'demo', sys.argv[2:], None)):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    for settings in ([], ["train.seed=2"]):
        holder = subprocess.Popen(
            [sys.executable, "-c", hold, str(toy), *settings],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            message = rf"already running \(pid {holder.pid}\)"
            with pytest.raises(MachineError, match=message):
                prepared(toy, *settings)
            prepared(toy, "train.seed=3")
        finally:
            holder.kill()
            holder.communicate()
        prepared(toy, *settings)  # a killed run holds nothing


def test_a_run_may_take_its_own_workspace_twice(toy: Path) -> None:
    plan = planned(toy, "demo", ["train.seed=2"], None)
    with opened(plan) as outer, opened(plan) as inner:
        assert outer == inner


def test_settings_of_the_users_own_dvc_come_along(toy: Path) -> None:
    remote = '[\'remote "a b"\']\n    url = "s3://x/y, z"\n    profile = me\n'
    write_text(toy / ".dvc" / "config.local", remote)
    here = prepared(toy, "train.seed=2")
    local = (here.path / ".dvc" / "config.local").read_text()
    assert "profile = me" in local
    assert "s3://x/y, z" in local
    assert workspace.load_params(here.path)  # and DVC could read it, or taking it had failed


def test_an_edit_in_the_same_instant_as_the_index_is_seen(toy: Path) -> None:
    """Same size, same second: git tells such an edit only by the time of the index file."""
    git(toy, "config", "core.trustctime", "false")
    path, instant = toy / "code" / "train.py", (1_700_000_000, 1_700_000_000)
    os.utime(path, instant)
    git(toy, "add", "code/train.py")
    path.write_text(path.read_text().replace("only", "ylno"))
    os.utime(path, instant)
    os.utime(toy / ".git" / "index", instant)
    here = prepared(toy, "train.seed=2")
    assert (here.path / "code" / "train.py").read_text() == path.read_text()


def test_settings_that_dvc_refuses_are_the_users_to_mend(toy: Path) -> None:
    write_text(toy / ".dvc" / "config.local", "[core]\n    autostag = true\n")
    with pytest.raises(RecipeError, match="DVC refuses its settings") as fault:
        prepared(toy, "train.seed=2")
    assert fault.value.exit_code == 2
