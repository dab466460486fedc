"""A toy project whose runs leave scores and costs, and a driver process that bakes off in it.

``python toy_bakeoff.py ROOT JSON`` prints the result's document on its last line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmops.errors import GlmopsError
from toy_project import (
    DVC_YAML,
    STAGE,
    Done,
    ToyRegistry,
    ToyVerdict,
    driver_environment,
    edit,
    make_project,
    say,
    starts,
)

SHARES = {"lora": 0.6, "prefix": 0.6, "full": 0.9}
SECONDS = {"lora": 30.0, "prefix": 20.0, "full": 50.0}
ROWS = 40

# The method that the variable TOY_FAILS names is refused by the train stage.
MORE = f"""
import json
train = yaml.safe_load(pathlib.Path("recipes", name + ".yaml").read_text())["train"]
method, seed = train["method"], train["seed"]
if stage == "train":
    numbers = {{
        "seconds": {SECONDS}[method], "tokens_per_second": 100, "tokens": 100 * {SECONDS}[method],
        "peak_bytes": 10**8, "parameters": {{"trainable": 5, "total": 9}},
    }}
    scores = pathlib.Path("reports", name, "train")
    scores.mkdir(parents=True)
    (scores / "metrics.json").write_text(json.dumps({{method: numbers}}))
if stage == "evaluate":
    from glmops.records import Score, write_table
    right = [float((row + 7 * seed) % {ROWS} < {SHARES}[method] * {ROWS}) for row in range({ROWS})]
    pairs = (("classification", "accuracy"), ("triples", "f1"))
    rows = [Score(str(i), *pair, right[i], 1.0) for pair in pairs for i in range({ROWS})]
    write_table(scores / "scores.parquet", rows, Score)
    card = {{"test": {{"sha256": "t", "metrics": "m"}}}}
    (scores / "scorecard.json").write_text(json.dumps(card))
"""
REFUSES = """
if stage == "train" and section["method"] == os.environ.get("TOY_FAILS"):
    told = "refuse"
if told == "refuse":"""


def scored_project(root: Path) -> Path:
    project = make_project(root)
    (project / "code" / "stage.py").write_text(
        STAGE.replace('\nif told == "refuse":', REFUSES) + MORE, encoding="utf-8"
    )
    (project / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    edit(
        project / "dvc.yaml",
        "outs: ['models/${key}']",
        "outs: ['models/${key}', 'reports/${key}/train']",
    )
    return project


@dataclass(frozen=True)
class Outcome(ToyVerdict):
    outcome: str = "passed"


class ScoredRegistry(ToyRegistry):
    def _verdict(self) -> Outcome:
        return Outcome(True)


def bake(root: Path, variables: Mapping[str, str] | None = None, **arguments: Any) -> Done:
    """Bake off in a process of its own, as `glmops bakeoff demo` does."""
    before = len(starts(root))
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), str(root), json.dumps(arguments)],
        env=driver_environment(root, **(variables or {})), cwd=root, capture_output=True,
        text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    lines = done.stdout.strip().split("\n")
    outcome = json.loads(lines[-1]) if lines[-1].startswith("{") else {}
    ran = [stage for stage, _ in starts(root)[before:]]
    return Done(done.returncode, outcome, done.stdout + done.stderr, ran)


def main() -> None:
    from flows.bakeoff import bakeoff
    from glmops.promote.bakeoff.shown import document

    root, arguments = Path(sys.argv[1]), json.loads(sys.argv[2])
    try:
        found = bakeoff(root, "demo", say=say, registry=ScoredRegistry(), **arguments)
    except GlmopsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    assert found is not None
    loaded = [name for name in ("prefect", "mlflow", "torch") if name in sys.modules]
    sys.stdout.write(json.dumps({**document(found), "loaded": loaded}) + "\n")
    sys.stdout.flush()
    sys.exit(1 if found.failed else 0)


if __name__ == "__main__":
    main()
