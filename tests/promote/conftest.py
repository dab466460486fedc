"""A project whose stages have run: small real files, real scores, and MLflow on SQLite."""

from __future__ import annotations

import csv
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from glmops.contract import contract_for
from glmops.promote import promotion
from glmops.promote.tracking import candidates_of
from glmops.recipe import Recipe, load_recipe
from glmops.records import SPLITS, Record, Score, write_table
from glmops.storage import Layout, sha256_json, write_json, write_jsonl

DEMO = Path(__file__).parents[2] / "recipes" / "demo.yaml"
LABELS = ("水果", "电脑", "衣服", "书籍")
ROWS = 120


@dataclass(frozen=True)
class Workshop:
    """A project root and the stage outputs of its recipe ``demo``, which a test may redo."""

    root: Path
    name: str = "demo"

    @property
    def layout(self) -> Layout:
        return Layout(self.root, self.name)

    @property
    def recipe(self) -> Recipe:
        return load_recipe(self.root, self.name)

    def rules(self, **promote: Any) -> None:
        """Replace keys of the recipe's promote section, as an editor would."""
        path = self.root / "recipes" / f"{self.name}.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content["promote"].update(promote)
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")

    def train(
        self,
        weights: str,
        *,
        right: int = 114,
        f1: float = 0.9,
        test: str = "a",
        steps: int = 0,
    ) -> None:
        """Write stage outputs: a checkpoint called ``weights`` with ``right`` of 120 rows right.

        Without ``steps`` the loss history is empty: most stories need no curve drawn.
        """
        _write_model(self.layout, weights, steps)
        _write_prepared(self.layout)
        _write_evaluation(self.layout, right, f1, test)

    def register(self, **overrides: Any) -> promotion.Registration:
        return promotion.register(self.root, self.layout, self.recipe, overrides=overrides)

    def already(self, **overrides: Any) -> promotion.Registration | None:
        return promotion.already_registered(
            self.root, self.layout, self.recipe, overrides=overrides
        )

    def mlflow_rows(self) -> dict[str, int]:
        """How many of each thing MLflow holds for the recipe, counted in its own tables."""
        queries = {
            "runs": "SELECT count(*) FROM runs JOIN experiments USING (experiment_id) "
            "WHERE experiments.name = ? AND runs.lifecycle_stage = 'active'",
            "models": "SELECT count(*) FROM logged_models JOIN experiments USING (experiment_id) "
            "WHERE experiments.name = ? AND logged_models.status = 2",
        }
        with closing(sqlite3.connect(self.root / "mlflow.db")) as database:
            counts = {
                key: database.execute(q, [self.name]).fetchone()[0] for key, q in queries.items()
            }
            versions = (
                "SELECT count(*) FROM model_versions WHERE name = ? AND current_stage = 'None'"
            )
            for key, name in (("candidates", candidates_of(self.name)), ("champions", self.name)):
                counts[key] = database.execute(versions, [name]).fetchone()[0]
        return counts

    @staticmethod
    def killed_after(step: str, act: Callable[[], Any]) -> None:
        """Do ``act`` in a forked process that ends, without any clean-up, right after ``step``."""
        import mlflow
        import mlflow.pyfunc

        child = os.fork()
        if child == 0:
            try:
                module, name = step.split(":")
                owner = mlflow.MlflowClient if "MlflowClient" in module else sys.modules[module]
                original = getattr(owner, name)

                def last(*arguments, **named):
                    original(*arguments, **named)
                    os._exit(9)

                setattr(owner, name, last)
                act()
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, f"{step} was never reached"


def _write_model(layout: Layout, weights: str, steps: int) -> None:
    contract = contract_for(["context-target"], "glm", max_prompt_tokens=256, max_answer_tokens=256)
    layout.model.mkdir(parents=True, exist_ok=True)
    contract.save(layout.model)
    (layout.model / "model.safetensors").write_bytes(weights.encode() * 1000)
    (layout.model / "config.json").write_text("{}", encoding="utf-8")
    base = {"method": "scratch", "sha256": "b" * 64}
    lineage = {"base": base, "method": "lora", "export": "merged", "contract": contract.hash()}
    write_json(layout.model / "lineage.json", lineage)
    history = layout.reports("train") / "history.csv"
    history.parent.mkdir(parents=True, exist_ok=True)
    with history.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "phase", "epoch", "loss", "learning_rate", "dev_loss"])
        for step in range(1, steps + 1):
            dev = f"{2 / step:.4f}" if step % 10 == 0 else ""
            writer.writerow([step, "lora", step / 10, f"{3 / step:.4f}", 0.001, dev])


def _write_prepared(layout: Layout) -> None:
    for split in SPLITS:
        row = Record(
            f"{split}-1", "classification", "头", "体", "\n答：", '["水果"]', "g", "a.jsonl", 1
        )
        write_table(layout.prepared / f"{split}.parquet", [row], Record)
    counts = {"rows": {"read": 800, "accepted": 800, "refused": 0}, "splits": {"test": ROWS}}
    write_json(layout.reports("prepare") / "metrics.json", counts)


def _write_evaluation(layout: Layout, right: int, f1: float, test: str) -> None:
    """ROWS classification rows of which ``right`` are right, and ROWS triple rows of equal F1."""
    answers, scores, pairs = [], [], []
    for i in range(ROWS):
        expected = LABELS[i % 4]
        answered = expected if i < right else LABELS[(i + 1) % 4]
        pairs.append((expected, answered))
        answers.append(_answer(f"c{i:03}", "classification", f'["{expected}"]', f'["{answered}"]'))
        scores.append(Score(f"c{i:03}", "classification", "accuracy", float(i < right), 1.0))
        answers.append(_answer(f"t{i:03}", "triples", "```json\n[]\n```", "<script>x</script>"))
        scores.append(Score(f"t{i:03}", "triples", "f1", 10 * f1, 10.0))
    folder = layout.reports("evaluate")
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "scores.parquet", scores, Score)
    write_jsonl(folder / "answers.jsonl", answers)
    with (folder / "confusion.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("expected", "answered"), *pairs])
    scorecard = {
        "classification": {"accuracy": right / ROWS, "majority": 0.25, "rows": ROWS},
        "triples": {"f1": f1, "rows": ROWS},
        "test": {"rows": 2 * ROWS, "sha256": sha256_json(test)},
    }
    write_json(folder / "scorecard.json", scorecard)


def _answer(id: str, task: str, target: str, answer: str) -> dict[str, Any]:
    prompt = f"Instruction: 读。\nInput: 句子 {id} <b>&\nAnswer: "
    return {
        "id": id, "task": task, "prompt": prompt, "target": target, "answer": answer,
        "finished": True,
    }  # fmt: skip


RULES = {
    "floors": {"classification/accuracy": 0.9, "triples/f1": 0.6},
    "max_regression": {"classification/accuracy": 0.02, "triples/f1": 0.03},
    "min_rows": 1,
    "approvals": 1,
}


def make_workshop(root: Path) -> Workshop:
    """A project with the demo's recipe, under rules that the tests' numbers were chosen for."""
    (root / "recipes").mkdir(parents=True)
    (root / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    recipe = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    recipe |= {"promote": RULES, "description": "This proves the pipeline, not a model."}
    text = yaml.safe_dump(recipe, allow_unicode=True)
    (root / "recipes" / "demo.yaml").write_text(text, encoding="utf-8")
    return Workshop(root)


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database, migrated and empty: making one costs seconds, copying it does not.

    It is made where an earlier attempt was killed in the middle and left its draft.
    """
    from glmops.promote.connection import connected

    root = tmp_path_factory.mktemp("mlflow")
    (root / ".mlflow.db.draft").write_bytes(b"half a database")
    (root / ".mlflow.db.draft-journal").write_bytes(b"half a journal")
    with connected(root) as client:
        client.search_experiments()
    return root / "mlflow.db"


@pytest.fixture(scope="session")
def only_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every workshop is built, one after the other; its name is one that URIs have to quote.

    One place, because MLflow spends 0.2 s on each database that its process has not seen yet.
    """
    return tmp_path_factory.mktemp("workshop") / "项 目 #1"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Workshop:
    """A second project, in which nothing has run."""
    return make_workshop(tmp_path / "elsewhere")


@pytest.fixture
def wiped(tmp_path: Path, empty_mlflow: Path) -> Callable[[Workshop], Workshop]:
    """The same project after its tracking database was lost.

    In another place, because MLflow keeps a database open as long as its process lives.
    """

    def wipe(workshop: Workshop) -> Workshop:
        root = tmp_path / "wiped"
        shutil.copytree(workshop.root, root)
        shutil.copy(empty_mlflow, root / "mlflow.db")
        return Workshop(root)

    return wipe


@pytest.fixture
def workshop(only_place: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A project whose recipe demo has been trained and scored once, and nothing registered."""
    monkeypatch.setenv("GLMOPS_ACTOR", "carol")
    monkeypatch.delenv("GLMOPS_TRACKING_URI", raising=False)
    monkeypatch.delenv("GLMOPS_LEDGER_URL", raising=False)
    database = only_place / "mlflow.db"
    for old in only_place.iterdir() if only_place.is_dir() else ():
        if old.is_dir():
            shutil.rmtree(old)
        elif old != database:
            old.unlink()
    made = make_workshop(only_place)
    # Emptied through SQLite, since MLflow still has the file open.
    with closing(sqlite3.connect(empty_mlflow)) as empty, closing(sqlite3.connect(database)) as now:
        empty.backup(now)
    made.train("first")
    return made
