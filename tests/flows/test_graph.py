"""What we forecast is what DVC then does: the stages' own notes of being started decide."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from flows import graph
from flows.faults import StageDied, StageError
from glmops.errors import InputError, MachineError, RecipeError
from glmops.storage import sha256_tree
from toy_project import ROOT, driver_environment, edit, starts, until

STAGES = ["prepare@demo", "train@demo", "evaluate@demo"]


@pytest.fixture(autouse=True)
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every toy stage notes its start beside the project."""
    monkeypatch.setenv("TOY_STARTS", str(tmp_path / "toy.starts"))


def started(root: Path) -> list[str]:
    return [f"{stage}@demo" for stage, _ in starts(root) if stage != "below"]


def reproduce_all(root: Path, again: frozenset[str] = frozenset()) -> dict[str, str]:
    return {
        address: graph.reproduce(root, address, again=address in again)
        for address in graph.stages(root, "demo")
    }


def test_the_stages_come_in_running_order_with_what_they_wait_for(toy: Path) -> None:
    assert graph.stages(toy, "demo") == {
        "prepare@demo": (),
        "train@demo": ("prepare@demo",),
        "evaluate@demo": ("prepare@demo", "train@demo"),
    }
    assert [*graph.stages(toy, "demo")] == STAGES


def test_the_answer_does_not_depend_on_the_current_folder(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert reproduce_all(toy) == dict.fromkeys(STAGES, "run")
    assert Path.cwd() == Path("/")
    assert graph.forecast(toy, "demo") == dict.fromkeys(STAGES, "keep")


def touch(root: Path) -> None:
    for path in (root / "code" / "train.py", root / "data" / "samples" / "rows.txt"):
        os.utime(path, (1, 1))


def recipe(old: str, new: str) -> Callable[[Path], None]:
    return lambda root: edit(root / "recipes" / "demo.yaml", old, new)


def add_recipe(root: Path) -> None:
    (root / "recipes" / "other.yaml").write_bytes((root / "recipes" / "demo.yaml").read_bytes())
    edit(root / "params.yaml", "recipes:", "recipes:\n  other: {raw: data/samples}")


def compile_code(root: Path) -> None:
    (root / "code" / "__pycache__").mkdir()
    (root / "code" / "__pycache__" / "stage.pyc").write_bytes(b"0")


@pytest.mark.parametrize(
    ("change", "forecast"),
    [
        (touch, "keep keep keep"),
        (recipe("approvals: 1", "# a comment\n  approvals: 2"), "keep keep keep"),
        (add_recipe, "keep keep keep"),
        (compile_code, "keep keep keep"),
        (recipe("seed: 1\n", "seed: 2\n"), "keep run run?"),
        (recipe("split: test", "split: dev"), "keep keep run"),
        (lambda root: edit(root / "code/train.py", "only", "just"), "keep run run?"),
        (lambda root: edit(root / "data/samples/rows.txt", "一", "三"), "run run? run?"),
        (lambda root: edit(root / "models/demo/out.txt", "train", "drain"), "keep restore run?"),
        (lambda root: (root / "dvc.lock").unlink(), "restore run? run?"),
    ],
)
def test_the_forecast_is_what_then_happens(
    built: Path, change: Callable[[Path], None], forecast: str
) -> None:
    change(built)
    expected = dict(zip(STAGES, forecast.split(), strict=True))
    assert graph.forecast(built, "demo") == expected
    did = reproduce_all(built)
    for address, verdict in expected.items():
        assert verdict in ("run?", did[address])
    # The processes that were really started are those that we say ran.
    assert started(built) == [address for address, verdict in did.items() if verdict == "run"]
    assert graph.forecast(built, "demo") == dict.fromkeys(STAGES, "keep")


def test_a_change_that_leaves_an_output_equal_stops_there(built: Path) -> None:
    edit(built / "code" / "stage.py", "import json", "import  json")
    assert graph.forecast(built, "demo")["prepare@demo"] == "run"
    reproduce_all(built)
    # stage.py is everybody's dependency; train.py is train's alone, and train ignores its text.
    edit(built / "code" / "train.py", "only", "just")
    before = len(started(built))
    assert reproduce_all(built) == {**dict.fromkeys(STAGES, "keep"), "train@demo": "run"}
    assert started(built)[before:] == ["train@demo"]


def test_values_that_ran_before_are_restored_not_run(built: Path) -> None:
    change, back = recipe("seed: 1\n", "seed: 2\n"), recipe("seed: 2\n", "seed: 1\n")
    first = sha256_tree(built / "models")
    change(built)
    reproduce_all(built)
    assert sha256_tree(built / "models") != first
    back(built)
    assert graph.forecast(built, "demo")["train@demo"] == "restore"
    ran = len(started(built))
    assert reproduce_all(built) == {
        "prepare@demo": "keep", "train@demo": "restore", "evaluate@demo": "restore",
    }  # fmt: skip
    assert started(built)[ran:] == []
    assert sha256_tree(built / "models") == first


def test_a_restore_whose_bytes_left_the_cache_is_a_run(built: Path) -> None:
    locked = yaml.safe_load((built / "dvc.lock").read_text())["stages"]
    first = locked["train@demo"]["outs"][0]["md5"]
    recipe("seed: 1\n", "seed: 2\n")(built)
    reproduce_all(built)
    recipe("seed: 2\n", "seed: 1\n")(built)
    (built / ".dvc" / "cache" / "files" / "md5" / first[:2] / first[2:]).unlink()
    assert graph.forecast(built, "demo")["train@demo"] == "run"
    assert reproduce_all(built)["train@demo"] == "run"
    assert started(built) == ["train@demo", "evaluate@demo", "train@demo"]


def test_dvc_repro_runs_what_was_forecast(built: Path) -> None:
    recipe("seed: 1\n", "seed: 2\n")(built)
    assert graph.forecast(built, "demo")["train@demo"] == "run"
    environment = driver_environment(built)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "-q"], cwd=built, env=environment, check=True
    )
    assert started(built) == ["train@demo", "evaluate@demo"]
    assert graph.forecast(built, "demo") == dict.fromkeys(STAGES, "keep")


def test_a_forecast_writes_nothing_that_anybody_reads(built: Path) -> None:
    recipe("seed: 1\n", "seed: 2\n")(built)

    def bytes_of_project() -> dict[str, str]:
        tree = sha256_tree(built)
        return {path: digest for path, digest in tree.items() if not path.startswith(".dvc/tmp/")}

    before = bytes_of_project()
    graph.forecast(built, "demo")
    assert bytes_of_project() == before


def test_from_a_stage_on_everything_after_it_runs_again(built: Path) -> None:
    again = graph.following(graph.stages(built, "demo"), "train")
    expected = {"prepare@demo": "keep", "train@demo": "run", "evaluate@demo": "run"}
    assert graph.forecast(built, "demo", again=again) == expected
    assert reproduce_all(built, again) == expected
    assert started(built) == ["train@demo", "evaluate@demo"]


def test_an_unknown_stage_to_start_from_is_refused_with_the_known_ones(toy: Path) -> None:
    with pytest.raises(RecipeError, match=r"got 'tune'\. Known: evaluate, prepare, train"):
        graph.following(graph.stages(toy, "demo"), "tune")


def test_a_stage_that_refuses_is_heard_with_its_own_words_and_exit_code(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_PREPARE", "refuse")
    with pytest.raises(StageError) as refusal:
        graph.reproduce(toy, "prepare@demo")
    assert str(refusal.value) == "data/raw/rows.txt:3: expected 2 fields, got 1. Repair the row."
    assert refusal.value.exit_code == 2


def test_a_stage_that_dies_is_named_with_how_it_died(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_PREPARE", "die")
    with pytest.raises(StageDied, match=r"prepare@demo: .* ended by SIGKILL") as death:
        graph.reproduce(toy, "prepare@demo")
    assert death.value.exit_code == 1
    monkeypatch.setenv("TOY_PREPARE", "")
    assert graph.reproduce(toy, "prepare@demo") == "run"


def test_a_stage_that_fails_without_a_word_is_a_fault_of_ours(toy: Path) -> None:
    edit(toy / "code" / "stage.py", "import json", "import no_such_module, json")
    with pytest.raises(StageDied, match="ended with exit code 1 and gave no reason"):
        graph.reproduce(toy, "prepare@demo")


def test_a_dependency_that_is_gone_is_named(toy: Path) -> None:
    (toy / "data" / "samples" / "rows.txt").unlink()
    (toy / "data" / "samples").rmdir()
    with pytest.raises(InputError, match=r"prepare@demo: .*samples.* does not exist"):
        graph.forecast(toy, "demo")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("dvc.yaml", "stages:\n", "stages: [\n", r"dvc\.yaml: .*, line \d"),
        ("dvc.yaml", "      cmd:", "      comd:", r"dvc\.yaml: .*validation failed"),
        ("dvc.yaml", "item.raw", "item.row", "Could not find 'item.row'"),
        ("dvc.yaml", "outs: ['models/${key}']", "outs: ['data/prepared/${key}']", "is specified"),
        ("params.yaml", "demo:", "other:", r"dvc\.yaml: no stage for this recipe, got 'demo'"),
    ],
)
def test_a_fault_in_the_graph_is_the_users_to_correct(
    toy: Path, file: str, old: str, new: str, message: str
) -> None:
    edit(toy / file, old, new)
    with pytest.raises(RecipeError, match=message) as fault:
        graph.forecast(toy, "demo")
    assert fault.value.exit_code == 2


def test_a_folder_without_git_works_too(built: Path) -> None:
    subprocess.run(["rm", "-rf", str(built / ".git")], check=True)
    recipe("seed: 1\n", "seed: 2\n")(built)
    assert reproduce_all(built)["train@demo"] == "run"


HOLD = """
import sys, time
from dvc.repo import Repo
repo = Repo(sys.argv[1])
repo.lock.lock()
print("held", flush=True)
time.sleep(float(sys.argv[2]))
repo.lock.unlock()
"""


@contextmanager
def lock_held(root: Path, seconds: float) -> Iterator[None]:
    """Another process has DVC's lock now, and lets it go after so long."""
    command = [sys.executable, "-c", HOLD, str(root), str(seconds)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_held_for_longer_than_dvc_waits_is_waited_out(built: Path) -> None:
    with lock_held(built, 5):  # DVC by itself gives up after 3 seconds
        assert graph.forecast(built, "demo") == dict.fromkeys(STAGES, "keep")


def test_a_lock_that_stays_held_is_reported(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "LOCK_PATIENCE_SECONDS", 1.0)
    with lock_held(built, 60), pytest.raises(MachineError, match="another DVC process has held"):
        graph.forecast(built, "demo")


def test_work_that_is_done_is_not_thrown_away_for_a_busy_lock(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC frees its lock while a command runs, and takes it again when it may be another's."""
    monkeypatch.setenv("TOY_TRAIN", "sleep:1.5")
    recipe("seed: 1\n", "seed: 2\n")(built)
    verdicts: list[str] = []
    stage = threading.Thread(
        target=lambda: verdicts.append(graph.reproduce(built, "train@demo")), daemon=True
    )
    stage.start()
    until(lambda: started(built), "train has started")
    with lock_held(built, 6):
        stage.join(timeout=60)
    assert verdicts == ["run"]
    assert started(built) == ["train@demo"]


def test_asking_loads_no_heavy_library(built: Path) -> None:
    code = (
        "import sys, pathlib, flows.run, flows.graph, flows.workspace\n"
        "loaded = lambda: [m for m in ('prefect','mlflow','torch','transformers')"
        " if m in sys.modules]\n"
        "assert 'dvc' not in sys.modules, 'dvc'\n"
        "flows.graph.forecast(pathlib.Path.cwd(), 'demo')\n"
        "assert not loaded(), loaded()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=built, env=environment, check=True)
