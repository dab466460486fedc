"""An older prepared set comes out of git and DVC's cache, and docs/data.md says how: it is run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import graph
from flows.prepared_versions import versions
from glmops.errors import GlmopsError, InputError, RecipeError
from glmops.prepare import FORMATS, read
from glmops.prepare.check import columns_of
from glmops.recipe import Prepare
from glmops.storage import sha256_tree
from project import ROOT, Project, copy_project
from toy_project import edit, git

GUIDE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
PREPARED = "data/prepared/demo"
AUTHOR = ("-c", "user.name=t", "-c", "user.email=t@example.org")


def commit(root: Path) -> str:
    git(root, "add", "-A")
    git(root, *AUTHOR, "commit", "-qm", "a version")
    return git(root, "rev-parse", "HEAD").strip()


def dvc(root: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "dvc", *arguments, "-q"]
    subprocess.run(command, cwd=root, check=True, env={**os.environ, "DVC_NO_ANALYTICS": "1"})


def prepare_again(root: Path, old: str = "一", new: str = "三") -> None:
    edit(root / "data" / "samples" / "rows.txt", old, new)
    graph.reproduce(root, "prepare@demo")


def text(folder: Path) -> str:
    return (folder / "out.txt").read_text(encoding="utf-8")


@pytest.fixture
def two(built: Path) -> Path:
    """A toy project with one version committed and another one prepared since."""
    commit(built)
    prepare_again(built)
    return built


def refusal(root: Path, name: str = "demo", revision: str = "HEAD") -> GlmopsError:
    with pytest.raises(GlmopsError) as raised, versions(root, name, revision):
        pass
    assert raised.value.exit_code == 2
    return raised.value


def test_both_versions_can_be_read_and_nothing_of_the_users_changes(two: Path) -> None:
    edit(two / "code" / "train.py", "only", "staged")
    git(two, "add", "code/train.py")
    edit(two / "code" / "train.py", "staged", "edited again")
    index = (two / ".git" / "index").read_bytes()
    before = {name: digest for name, digest in sha256_tree(two).items() if ".dvc/tmp" not in name}
    with versions(two, "demo", "HEAD") as found:
        assert text(found.old).startswith("一")
        assert text(found.new).startswith("三")
        assert found.new == two / PREPARED
        assert found.old_where == f"{PREPARED} at HEAD ({git(two, 'rev-parse', 'HEAD')[:7]})"
        assert found.notes == ()
    assert not found.old.exists()
    after = {name: digest for name, digest in sha256_tree(two).items() if ".dvc/tmp" not in name}
    assert after == before
    assert (two / ".git" / "index").read_bytes() == index


def test_any_name_that_git_knows_is_a_revision(two: Path) -> None:
    first = git(two, "rev-parse", "HEAD").strip()
    git(two, "tag", "january")
    commit(two)
    for name in (first, first[:9], "january", "HEAD~1"):
        with versions(two, "demo", name) as found:
            assert text(found.old).startswith("一")
    with versions(two, "demo", "HEAD") as found:
        assert text(found.old) == text(found.new)


def test_a_project_below_the_top_of_its_repository_is_no_other(built: Path, tmp_path: Path) -> None:
    above = tmp_path / "above"
    shutil.rmtree(built / ".git")
    shutil.copytree(built, above / "here", symlinks=True)
    git(above, "init", "-q")
    commit(above)
    prepare_again(above / "here")
    with versions(above / "here", "demo", "HEAD") as found:
        assert text(found.old).startswith("一")
        assert text(found.new).startswith("三")


def test_a_set_that_is_not_checked_out_is_read_as_recorded(two: Path) -> None:
    shutil.rmtree(two / PREPARED)
    with versions(two, "demo", "HEAD") as found:
        assert text(found.old).startswith("一")
        assert text(found.new).startswith("三")
        assert "is not checked out" in found.notes[0]
    assert not (two / PREPARED).exists()


def test_rows_that_are_newer_than_the_set_are_told_of(two: Path) -> None:
    edit(two / "data" / "samples" / "rows.txt", "三", "四")
    with versions(two, "demo", "HEAD") as found:
        assert "`dvc repro prepare@demo` first" in found.notes[0]


def test_a_version_that_only_the_remote_has_is_fetched_as_the_message_says(built: Path) -> None:
    # Before the first commit: DVC looks for a commit's sets at that commit's own remote.
    dvc(built, "remote", "add", "--default", "store", str(built.parent / "store"))
    commit(built)
    dvc(built, "push")
    prepare_again(built)
    commit(built)
    dvc(built, "push")
    shutil.rmtree(built / ".dvc" / "cache")
    fault = refusal(built, revision="HEAD~1")
    assert isinstance(fault, InputError)
    assert "DVC's cache here does not have this version" in str(fault)
    (told,) = re.findall(r"`dvc (fetch [^`]+)`", str(fault))
    dvc(built, *told.split())
    with versions(built, "demo", "HEAD~1") as found:
        assert text(found.old).startswith("一")


def test_a_version_of_which_the_cache_lost_a_file_is_refused(two: Path) -> None:
    with versions(two, "demo", "HEAD") as found:
        (found.old / "out.txt").resolve().unlink()
    assert "does not have this version (whole)" in str(refusal(two))


def test_what_cannot_be_compared_is_said_in_a_line(two: Path) -> None:
    assert "no such recipe, got 'dmeo'. Known: demo" in str(refusal(two, name="dmeo"))
    for unknown in ("nowhere", "--all", "HEAD~99", ""):
        fault = refusal(two, revision=unknown)
        assert isinstance(fault, RecipeError)
        assert f"REV: git knows no such commit, got {unknown!r}" in str(fault)
    git(two, "rm", "-q", "--cached", "dvc.lock")
    git(two, *AUTHOR, "commit", "-qm", "without the lock")
    said = str(refusal(two))
    assert said.startswith("dvc.lock at HEAD (")
    assert "no prepared set of this recipe was recorded there, got 'demo'" in said


@pytest.mark.parametrize("damage", ["edited", "half-written", "another file", "of another commit"])
def test_a_folder_that_is_not_what_was_recorded_is_refused(two: Path, damage: str) -> None:
    folder = two / PREPARED
    if damage == "edited":
        (folder / "out.txt").write_text("一\n")
    elif damage == "half-written":
        (folder / "out.txt").unlink()
    elif damage == "another file":
        (folder / "notes.txt").write_text("mine\n")
    else:
        git(two, "checkout", "-q", "--", "dvc.lock")
    said = str(refusal(two))
    assert said.startswith(f"{PREPARED}: holds something else than dvc.lock records")
    assert f"`dvc checkout {PREPARED}`" in said


def test_a_set_that_was_never_made_here_is_told_how_to_make(two: Path) -> None:
    shutil.rmtree(two / PREPARED)
    (two / "dvc.lock").unlink()
    said = str(refusal(two))
    assert said == (
        f"{PREPARED}: never prepared. Make it: `dvc repro prepare@demo`, or `glmops run demo`."
    )


def test_without_git_there_is_no_older_version(two: Path) -> None:
    shutil.rmtree(two / ".git")
    assert "not a git repository, so there is no older version" in str(refusal(two))


def test_a_merge_that_is_not_finished_is_the_users_to_finish(two: Path) -> None:
    edit(two / "dvc.lock", "schema:", "<<<<<<< HEAD\nschema:")
    assert str(refusal(two)).startswith("dvc.lock:2: not YAML, as after a merge")


def blocks(language: str, section: str) -> list[str]:
    """The fenced blocks of one language in the guide's section of that title."""
    found = re.search(rf"^##+ {re.escape(section)}\n(.*?)(?=^##|\Z)", GUIDE, re.M | re.S)
    assert found, section
    return re.findall(rf"^```{language}\n(.*?)^```$", found[1], re.M | re.S)


@pytest.mark.parametrize("format", FORMATS)
def test_the_guides_rows_of_every_format_are_read(tmp_path: Path, format: str) -> None:
    language = "text" if format in ("toutiao", "paper", "table") else "json"
    (rows,) = blocks(language, f"`{format}`")
    header = format in ("paper", "table")
    path = tmp_path / {"toutiao": "rows.txt", "paper": "rows.csv", "table": "my.csv"}.get(
        format, "rows.jsonl"
    )
    path.write_text(rows, encoding="utf-8")
    settings: dict[str, Any] = {}
    if format == "table":
        (command,) = blocks("bash", "`table`")
        options = shlex.split(command)[3:]
        given = list(zip(options[::2], options[1::2], strict=True))
        settings = {name.removeprefix("--"): value for name, value in given}
        settings["columns"] = columns_of([value for name, value in given if name == "--column"])
        del settings["column"], settings["format"]
    records, refusals = read(path, format, **settings)
    assert (len(records), refusals) == (rows.count("\n") - header, [])


def test_the_guides_recipes_are_recipes_and_its_table_has_every_key() -> None:
    title = "The recipe's `prepare` section"
    for block in blocks("yaml", title):
        Prepare.model_validate(yaml.safe_load(block)["prepare"])
    for key in Prepare.model_fields:
        assert f"`{key}`" in GUIDE or f"[].{key}`" in GUIDE, key


def test_the_guides_way_of_growing_works(tmp_path: Path) -> None:
    """Every command of that section, in order, as a user in a new project would give it."""
    project, home = copy_project(tmp_path / "project"), tmp_path / "home"
    labels = ("耳机", "咖啡", "雨伞")
    months = {name: home / "downloads" / f"{name}.jsonl" for name in ("january", "february")}
    (home / "downloads").mkdir(parents=True)
    (home / "deliveries" / "reviews").mkdir(parents=True)
    put(months["january"], [(f"第{n}件，很好用。", labels[n % 3]) for n in range(150)])
    put(months["february"], [(f"第{n}件，又贵又不好用。", "雨伞") for n in range(200, 240)])
    shutil.copy(months["january"], home / "deliveries" / "reviews" / "1.jsonl")
    said = []
    for block in blocks("bash", "Rows that grow"):
        # That the commands which take long are whole ones, their forecasts show.
        script = re.sub(r"^(glmops run \S+)$", r"\1 --dry", block, flags=re.M)
        script = script.replace("repro prepare@reviews", "repro --dry prepare@reviews")
        script = script.replace("~/", f"{home}/")
        if "dvc update" in script:
            shutil.copy(months["february"], home / "deliveries" / "reviews" / "2.jsonl")
        said.append(shell(project, script))
    _, first, grown, committed, imported, updated = said
    assert "150 rows read: 150 classification" in first
    assert "40 rows added, 0 removed, 0 relabelled" in grown
    assert "No source text moved to another side of the split." in grown
    assert "labels: drift, more than chance: the new rows differ a lot" in grown
    assert "keep     prepare@mine" in committed
    assert "40 rows added, 0 removed, 0 relabelled" in committed
    assert "Running stage 'prepare@reviews'" in imported
    assert "run      prepare@reviews" in updated
    delivered = project.root / "data" / "raw" / "reviews" / "2.jsonl"
    assert delivered.read_bytes() == months["february"].read_bytes()
    done = project.glmops("diff", "mine", "HEAD~2", "--json")
    found = json.loads(done.stdout)
    assert (found["recipe"], found["rows"]["added"], found["rows"]["moved"]) == ("mine", 40, 0)
    assert "no such commit" in project.glmops("diff", "mine", "nowhere", code=2).stderr


def put(path: Path, rows: list[tuple[str, str]]) -> None:
    lines = [{"context": text, "target": json.dumps([label])} for text, label in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def shell(project: Project, script: str) -> str:
    """What a block of the guide prints; the first command that fails fails the test."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {"PATH": path, "COLUMNS": "200", "DVC_NO_ANALYTICS": "1", "POLARS_MAX_THREADS": "2"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=project.root, text=True, check=False,
        env={**os.environ, **variables}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout
