"""The main job as a user does it: commands, exit codes, and what they leave behind.

Training is what costs, so most tests share one project in which the recipe ran twice; the recipe is
the demo's, shortened. test_demo.py runs the real one.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from glmops.storage import STAGES, sha256_tree
from project import Project, quick_project

pytestmark = pytest.mark.timeout(1500)

COMMIT = "mlflow.source.git.commit"
OUTPUTS = ("data/prepared/demo", "data/encoded/demo", "models/demo")


def status(project: Project) -> dict:
    return json.loads(project.glmops("status", "demo", "--json").stdout)[0]


def digests(project: Project) -> set[str]:
    return {candidate["digest"] for candidate in status(project)["candidates"]}


def ran(output: str) -> list[str]:
    """The stages whose own closing line is in the output."""
    return [stage for stage in STAGES if f"\n{stage:<9}" in "\n" + output]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the quick recipe in which nothing has run; tests here leave it that way."""
    return quick_project(tmp_path_factory.mktemp("quick") / "project")


@dataclass(frozen=True)
class Ran:
    """A project in which the recipe ran, then ran with another seed."""

    project: Project
    first: str
    second: str
    trees: dict[str, dict[str, str]]
    """Output folder → the hashes of its files after the first run."""


@pytest.fixture(scope="module")
def ran_twice(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    project = quick_project(tmp_path_factory.mktemp("ran") / "project")
    assert ran(project.glmops("run", "demo").stdout) == [*STAGES]
    (first,) = digests(project)
    trees = {folder: sha256_tree(project.root / folder) for folder in OUTPUTS}
    assert ran(project.glmops("run", "demo", "-S", "train.seed=2").stdout) == ["train", "evaluate"]
    (second,) = digests(project) - {first}
    return Ran(project, first, second, trees)


@pytest.fixture
def project(ran_twice: Ran) -> Iterator[Project]:
    """The project of ``ran_twice``, its tracked files put back after the test."""
    yield ran_twice.project
    ran_twice.project.git("checkout", "-q", "HEAD", "--", ".")


def test_a_second_run_does_nothing_and_says_so(project: Project) -> None:
    second = project.glmops("run", "demo")
    assert ran(second.stdout) == []
    assert "Nothing to do" in second.stdout


def test_the_policy_is_no_stage(project: Project, ran_twice: Ran) -> None:
    before = digests(project)
    project.set(promote__min_rows=2)
    assert ran(project.glmops("run", "demo").stdout) == []
    assert digests(project) == before


def test_a_metric_fix_scores_again_and_trains_nothing(project: Project) -> None:
    before = digests(project)
    metrics = project.root / "glmops" / "evaluate" / "metrics" / "labels.py"
    metrics.write_text(metrics.read_text() + "\n# a comment\n")
    assert ran(project.glmops("run", "demo").stdout) == ["evaluate"]
    assert digests(project) == before


def test_a_raised_floor_refuses_a_candidate_that_exists(project: Project, ran_twice: Ran) -> None:
    project.set(promote__floors={"classification/accuracy": 1.0, "triples/f1": 0.99})
    refused = project.glmops("run", "demo", code=3)
    assert ran(refused.stdout) == []
    assert "triples/f1 is" in refused.stdout
    assert "the floor is 0.9900" in refused.stdout
    standing = [c for c in status(project)["candidates"] if not c["stale"]]
    assert [(c["digest"], c["verdict"]) for c in standing] == [(ran_twice.first, "refused")]
    project.glmops("approve", "demo", ran_twice.first[:12], "--as", "alice", code=3)
    project.glmops("promote", "demo", ran_twice.first[:12], code=3)


def test_dvc_and_mlflow_show_two_runs_side_by_side(project: Project, ran_twice: Ran) -> None:
    dvc = str(Path(sys.executable).with_name("dvc"))
    for arguments in (["metrics", "show", "--json"], ["plots", "show", "--json"]):
        shown = subprocess.run(
            [dvc, *arguments], cwd=project.root, capture_output=True, text=True, check=True
        )
        assert "reports/demo/" in shown.stdout, shown.stderr
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project.root}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "demo"]
    found = client.search_runs([experiment.experiment_id])
    assert {run.data.tags["glmops.digest"] for run in found} == {ran_twice.first, ran_twice.second}
    assert all("triples/f1" in run.data.metrics for run in found)
    assert {run.data.params["train.seed"] for run in found} == {"1", "2"}
    commits = {run.data.params["train.seed"]: run.data.tags[COMMIT] for run in found}
    assert commits["1"] == project.git("rev-parse", "HEAD").strip()
    # The run with another seed came from a snapshot, whose recipe has that seed.
    assert "seed: 2" in project.git("show", f"{commits['2']}:recipes/demo.yaml")


def test_promotion_replaces_repeats_and_rolls_back(project: Project, ran_twice: Ran) -> None:
    first, second = ran_twice.first, ran_twice.second
    project.glmops("promote", "demo", first[:12], code=3)  # nobody approved
    project.glmops("approve", "demo", first[:12], "--as", "alice")
    project.glmops("promote", "demo", first[:12])
    assert status(project)["champion"] == first

    project.glmops("approve", "demo", second[:12], "--as", "bob")
    project.glmops("promote", "demo", second[:12])
    assert (status(project)["champion"], status(project)["previous"]) == (second, first)

    before = ledger_rows(project)
    project.glmops("promote", "demo", second[:12])
    assert ledger_rows(project) == before

    project.glmops("rollback", "demo", "--reason", "rehearsal")
    assert status(project)["champion"] == first
    context = "Instruction: 读。\nInput: 问？\n\n句子。\nAnswer: "
    (project.root / "ask.jsonl").write_text(json.dumps({"context": context}) + "\n")
    answers = project.glmops("predict", "demo", "ask.jsonl").stdout.splitlines()
    assert [set(json.loads(line)) for line in answers] == [{"context", "answer"}]


def ledger_rows(project: Project) -> int:
    with sqlite3.connect(project.root / "ledger.db") as ledger:
        return int(ledger.execute("select count(*) from ledger").fetchone()[0])


def test_overrides_leave_a_dirty_tree_alone_and_two_at_once_do_not_meet(project: Project) -> None:
    known = digests(project)
    (project.root / "README.md").write_text("edited, not committed")
    (project.root / "staged.txt").write_text("staged")
    (project.root / "untracked.txt").write_text("untracked")
    project.git("add", "staged.txt")
    before = project.git("status", "--porcelain"), (project.root / ".git/index").read_bytes()
    command = [str(Path(sys.executable).with_name("glmops")), "run", "demo", "-S"]
    runs = [
        subprocess.Popen(
            [*command, f"train.schedule.learning_rate={rate}"],
            cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rate in ("0.001", "0.002")
    ]  # fmt: skip
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    after = project.git("status", "--porcelain"), (project.root / ".git/index").read_bytes()
    assert after == before
    assert len(digests(project) - known) == 2


def test_a_newcomers_own_rows_become_a_candidate(project: Project, tmp_path: Path) -> None:
    rows = [
        {"context": f"商品{i}号：{word}，很满意。", "target": f'["{label}"]'}
        for i in range(40)
        for word, label in (("苹果很甜", "水果"), ("屏幕清晰", "电脑"), ("布料柔软", "衣服"))
    ]
    mine = tmp_path / "my rows;touch x.jsonl"
    mine.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    project.glmops("new", "mine", "--format", "context-target", "--raw", str(mine))
    project.glmops("run", "mine")
    assert not (project.root / "x").exists()
    entry = json.loads(project.glmops("status", "mine", "--json").stdout)[0]
    assert len(entry["candidates"]) == 1


def test_a_run_killed_in_every_stage_is_run_again_and_ends_the_same(
    ran_twice: Ran, tmp_path: Path
) -> None:
    project = quick_project(tmp_path / "project")
    glmops = str(Path(sys.executable).with_name("glmops"))
    for stage in STAGES:
        run = subprocess.Popen([glmops, "run", "demo"], cwd=project.root, stdout=subprocess.DEVNULL)
        tree = wait_for_stage(run.pid, stage)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        # A stage looks for its driver once it has imported what it needs: seconds, if it has a CPU.
        _, alive = psutil.wait_procs(tree, timeout=90)
        assert not [p for p in alive if "pipelines" in " ".join(p.cmdline())], "a stage lives on"
    project.glmops("run", "demo")
    for folder, files in ran_twice.trees.items():
        assert sha256_tree(project.root / folder) == files, folder
    assert digests(project) == {ran_twice.first}


def wait_for_stage(pid: int, stage: str) -> list[psutil.Process]:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        tree = psutil.Process(pid).children(recursive=True)
        for process in tree:
            try:
                if f"pipelines.{stage}" in process.cmdline():
                    time.sleep(0.3)
                    return tree
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.02)
    raise AssertionError(f"{stage} never started")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nope"], "no such recipe, got 'nope'. Known: adgen-full, "),
        (["run", "demo", "--raw", "absent.jsonl"], "absent.jsonl"),
        (["run", "demo", "-S", "train.rank=8"], "train.rank: unknown key"),
        (["run", "demo", "-S", "promote.min_rows=8"], "promote"),
        (["run", "demo", "-S", "train.seed"], "train.seed"),
        (["run", "demo", "--from", "cook"], "cook"),
        (["approve", "demo", "abcdef12", "--as", "alice"], "abcdef12"),
        (["status", "nope"], "no such recipe"),
        (["new", "Bad Name", "--format", "context-target", "--raw", "params.yaml"], "Bad Name"),
        (["new", "mine", "--format", "csv", "--raw", "params.yaml"], "Known: adgen, alpaca"),
    ],
)
def test_a_wrong_command_gets_one_clear_error(
    arguments: list[str], message: str, quick: Project
) -> None:
    project = quick
    before = project.git("status", "--porcelain", "--ignored")
    refused = project.glmops(*arguments, code=2)
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr + refused.stdout
    assert len(refused.stderr.strip().splitlines()) == 1
    after = project.git("status", "--porcelain", "--ignored")
    assert set(after.splitlines()) - set(before.splitlines()) <= {"!! .glmops/", "!! .dvc/tmp/"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"context,target\n", "CSV"),
        (b'{"context": "a", "target": "b"}\n{"context": "a", \n', "rows.jsonl:2"),
        (b'[{"context": "a", "target": "b"},', "rows.jsonl:1"),
        (b'{"text": "a", "label": "b"}\n', "rows.jsonl:1"),
        (b"\x1f\x8b\x08\x00", "rows.jsonl"),
    ],
)
def test_bad_rows_get_one_clear_error_and_leave_nothing(
    content: bytes, message: str, quick: Project
) -> None:
    project = quick
    rows = project.root / "data" / "raw" / "rows.jsonl"
    rows.parent.mkdir(parents=True, exist_ok=True)
    rows.write_bytes(content)
    refused = project.glmops("run", "demo", "--raw", str(rows), code=2)
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr + refused.stdout
    assert list(project.root.glob(".glmops/runs/*/data/prepared/demo")) == []
    assert not (project.root / "mlflow.db").exists()


def test_dvc_alone_builds_the_same_with_no_server(ran_twice: Ran, tmp_path: Path) -> None:
    project = quick_project(tmp_path / "project")
    bin_folder = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    subprocess.run([bin_folder / "dvc", "repro", "-q"], cwd=project.root, env=env, check=True)
    assert not (project.root / ".glmops" / "prefect").exists()
    assert ran(project.glmops("run", "demo").stdout) == []
    assert digests(project) == {ran_twice.first}
