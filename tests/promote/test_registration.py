from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from glmops.errors import InputError
from glmops.promote import ledger, registry
from glmops.promote.connection import connected
from glmops.storage import read_json, sha256_tree


def decided(root: Path) -> list[tuple[str, str]]:
    return [(entry.kind, entry.decision) for entry in ledger.read(root)]


ONE = {"runs": 1, "models": 1, "candidates": 1, "champions": 0}


def test_a_candidate_that_passes_gets_run_version_report_and_entries(workshop) -> None:
    done = workshop.register()
    assert (done.verdict.passed, done.already, done.name_of_model) == (
        True,
        False,
        "demo-candidates",
    )
    assert workshop.mlflow_rows() == ONE
    assert decided(workshop.root) == [("gate", "passed"), ("register", "candidate")]
    assert {entry.actor for entry in ledger.read(workshop.root)} == {"carol"}
    assert done.report.is_file()
    stored = read_json(done.report.with_name("verdict.json"))
    assert (stored["digest"], stored["outcome"]) == (done.digest, "passed")
    folder = registry.fetch(workshop.root, "demo-candidates", done.digest)
    assert (folder / "model" / "model.safetensors").read_bytes() == b"first" * 1000
    left = [p.name for p in (workshop.root / ".glmops" / "work" / "promote").iterdir()]
    assert left == []


def test_registering_again_finds_everything_and_writes_nothing(workshop) -> None:
    first = workshop.register()
    before = sha256_tree(workshop.root / "mlartifacts"), sha256_tree(workshop.root / "reports")
    assert workshop.already() == workshop.register()
    assert workshop.already().already
    assert workshop.already().digest == first.digest
    assert workshop.mlflow_rows() == ONE
    assert len(decided(workshop.root)) == 2
    after = sha256_tree(workshop.root / "mlartifacts"), sha256_tree(workshop.root / "reports")
    assert after == before


def test_a_refused_candidate_is_a_run_and_no_version(workshop) -> None:
    workshop.train("bad", right=60, f1=0.1)
    done = workshop.register()
    assert done.verdict.outcome == "refused"
    assert len(done.verdict.reasons) == 2
    assert workshop.mlflow_rows() == {**ONE, "models": 0, "candidates": 0}
    assert decided(workshop.root) == [("gate", "refused")]
    with connected(workshop.root) as client:
        (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert run.data.tags["glmops.verdict"] == "refused"
    assert "triples/f1 is 0.1000" in done.report.read_text(encoding="utf-8")
    again = workshop.already()
    assert again is not None
    assert again.verdict.as_json() == done.verdict.as_json()


def test_the_run_shows_parameters_scores_and_every_point_of_the_loss(workshop) -> None:
    workshop.train("first", steps=30)
    done = workshop.register(**{"train.seed": 2})
    with connected(workshop.root) as client:
        (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
        curve = client.get_metric_history(run.info.run_id, "lora/loss")
        dev = client.get_metric_history(run.info.run_id, "lora/dev_loss")
        files = {item.path for item in client.list_artifacts(run.info.run_id)}
    params, metrics = run.data.params, run.data.metrics
    rate = workshop.recipe.train.base.schedule.learning_rate
    assert params["train.base.schedule.learning_rate"] == str(rate)
    assert json.loads(params["prepare.tasks"]) == ["classification", "triples"]
    assert metrics["classification/accuracy"] == pytest.approx(114 / 120)
    assert metrics["test/rows"] == 240
    with (workshop.layout.reports("train") / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {p.step: p.value for p in curve} == {
        int(row["step"]): float(row["loss"]) for row in rows if row["phase"] == "lora"
    }
    assert sorted(p.step for p in dev) == [10, 20, 30]
    about = {"report.html", "verdict.json", "manifest.json", "scorecard.json"}
    assert files == {*about, "evaluation", "predictions.json"}
    assert run.data.tags["glmops.digest"] == done.digest
    assert "glmops.replayed" not in run.data.tags


def test_a_deleted_run_comes_back_and_is_not_doubled(workshop) -> None:
    workshop.register()
    with connected(workshop.root) as client:
        (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
        client.delete_run(run.info.run_id)
    assert workshop.already() is None
    assert not workshop.register().already
    assert workshop.mlflow_rows() == ONE
    assert workshop.already() is not None


def test_a_deleted_experiment_comes_back(workshop) -> None:
    workshop.register()
    with connected(workshop.root) as client:
        client.delete_experiment(client.get_experiment_by_name("demo").experiment_id)
    assert workshop.already() is None
    workshop.register()
    assert workshop.already() is not None
    assert workshop.mlflow_rows() == ONE


def test_a_deleted_version_comes_back_and_is_not_doubled(workshop) -> None:
    done = workshop.register()
    with connected(workshop.root) as client:
        client.delete_model_version("demo-candidates", "1")
    assert workshop.already() is None
    workshop.register()
    assert workshop.mlflow_rows() == ONE
    registry.fetch(workshop.root, "demo-candidates", done.digest)


def test_lost_artifacts_come_back_under_the_same_version(workshop) -> None:
    done = workshop.register()
    shutil.rmtree(workshop.root / "mlartifacts" / "demo" / "models")
    assert workshop.already() is None
    workshop.register()
    assert workshop.mlflow_rows() == ONE
    registry.fetch(workshop.root, "demo-candidates", done.digest)


def test_a_lost_report_is_written_again(workshop) -> None:
    done = workshop.register()
    page = done.report.read_bytes()
    done.report.unlink()
    assert workshop.already() is None
    assert workshop.register().report.read_bytes() == page
    assert len(decided(workshop.root)) == 2


def test_a_wiped_tracking_database_is_replayed(workshop, wiped) -> None:
    workshop.train("first", steps=30)
    first = workshop.register()
    again = wiped(workshop)
    assert again.already() is None
    assert again.register().digest == first.digest
    assert again.mlflow_rows() == ONE
    assert len(decided(again.root)) == 2
    assert again.already() is not None
    with connected(again.root) as client:
        (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
        assert run.data.tags["glmops.replayed"] == "true"
        assert len(client.get_metric_history(run.info.run_id, "lora/loss")) == 30


STEPS = [
    "glmops.promote.registration:write_json",
    "mlflow.MlflowClient:create_run",
    "mlflow.MlflowClient:log_batch",
    "mlflow.MlflowClient:log_artifact",
    "mlflow.MlflowClient:set_terminated",
    "glmops.promote.package:build",
    "mlflow.MlflowClient:create_logged_model",
    "mlflow.MlflowClient:log_outputs",
    "mlflow.MlflowClient:log_model_artifacts",
    "mlflow.MlflowClient:finalize_logged_model",
    "mlflow.MlflowClient:create_registered_model",
    "mlflow.MlflowClient:create_model_version",
    "glmops.promote.ledger:append",
]


@pytest.mark.parametrize("step", STEPS)
def test_a_registration_killed_after_any_step_ends_the_same_when_run_again(
    workshop, step: str
) -> None:
    workshop.train("first", steps=30)
    workshop.killed_after(step, workshop.register)
    done = workshop.register()
    assert workshop.mlflow_rows() == ONE
    assert decided(workshop.root) == [("gate", "passed"), ("register", "candidate")]
    assert workshop.already() is not None
    registry.fetch(workshop.root, "demo-candidates", done.digest)
    with connected(workshop.root) as client:
        (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
        assert len(client.get_metric_history(run.info.run_id, "lora/loss")) == 30
    assert run.info.status == "FINISHED"
    assert "glmops.replayed" not in run.data.tags


def test_two_registrations_at_once_make_one_of_everything(workshop) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            workshop.register()
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert workshop.mlflow_rows() == ONE
    assert len(decided(workshop.root)) == 2


def test_new_rules_are_a_new_verdict_on_the_same_candidate(workshop) -> None:
    first = workshop.register()
    workshop.rules(floors={"classification/accuracy": 0.99})
    assert workshop.already() is None
    second = workshop.register()
    assert (second.digest, second.verdict.outcome) == (first.digest, "refused")
    assert workshop.mlflow_rows() == ONE
    with connected(workshop.root) as client:
        (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert run.data.tags["glmops.verdict"] == "refused"
    workshop.rules(floors={"classification/accuracy": 0.9, "triples/f1": 0.6})
    assert workshop.register().verdict.passed
    assert decided(workshop.root) == [
        ("gate", "passed"), ("register", "candidate"), ("gate", "refused"),
    ]  # fmt: skip


def test_scores_that_are_no_number_are_refused_and_stored_as_json(workshop) -> None:
    workshop.train("broken", f1=math.nan)
    done = workshop.register()
    assert done.verdict.outcome == "refused"
    assert "not a finite number" in done.verdict.reasons[0]
    content = (done.report.with_name("verdict.json")).read_text(encoding="utf-8")
    assert "NaN" not in content


def test_a_missing_history_is_named(workshop) -> None:
    (workshop.layout.reports("train") / "history.csv").unlink()
    with pytest.raises(InputError, match=r"history\.csv"):
        workshop.register()
    assert decided(workshop.root) == []


def test_the_quick_path_loads_neither_mlflow_nor_torch(workshop) -> None:
    workshop.register()
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from glmops.promote import promotion
        from glmops.recipe import load_recipe
        from glmops.storage import Layout
        root = Path(sys.argv[1])
        recipe = load_recipe(root, "demo")
        assert promotion.already_registered(root, Layout(root, "demo"), recipe, overrides={})
        assert promotion.status(root, "demo")[0]["candidates"]
        heavy = {"mlflow", "torch", "matplotlib", "jinja2", "pandas", "transformers"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        """
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(workshop.root)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr


def test_importing_promote_is_light() -> None:
    program = (
        "import sys, glmops.promote; "
        "assert not {'mlflow', 'sqlalchemy', 'numpy', 'matplotlib', 'jinja2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
