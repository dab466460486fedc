"""A small project with real git and real DVC, stages that take no time, and a registry of files.

Run as a script it is a driver process, ``python toy_project.py ROOT JSON``; it prints the outcome
as JSON on its last line and ends with the outcome's exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from glmops.errors import GlmopsError
from glmops.recipe import Recipe
from glmops.storage import Layout, read_json, sha256_tree, write_json

ROOT = Path(__file__).parents[1]

DVC_YAML = """\
stages:
  prepare:
    foreach: ${recipes}
    do:
      cmd: python code/stage.py prepare ${key}
      params:
        - recipes/${key}.yaml: [prepare]
      deps: ['${item.raw}', code/stage.py]
      outs: ['data/prepared/${key}']
  train:
    foreach: ${recipes}
    do:
      cmd: python code/stage.py train ${key}
      params:
        - recipes/${key}.yaml: [train]
      deps: ['data/prepared/${key}', code/stage.py, code/train.py]
      outs: ['models/${key}']
  evaluate:
    foreach: ${recipes}
    do:
      cmd: python code/stage.py evaluate ${key}
      params:
        - recipes/${key}.yaml: [evaluate]
      deps: ['data/prepared/${key}', 'models/${key}', code/stage.py]
      outs: ['reports/${key}/evaluate']
"""

# What a stage does is said by the variable TOY_<STAGE>, which DVC does not see:
# sleep:N, refuse, die, or die-once. Each start is noted in the file named by TOY_STARTS.
STAGE = """\
import json, os, pathlib, subprocess, sys, time, yaml
stage, name = sys.argv[1:]
# As pipelines.process does it; the parent may be a shell, which a killed driver leaves behind.
driver = int(os.environ.get("GLMOPS_DRIVER_PID", os.getppid()))
def there():
    try:
        os.kill(driver, 0)
    except ProcessLookupError:
        return False
    return True
section = yaml.safe_load(pathlib.Path("recipes", name + ".yaml").read_text())[stage]
if starts := os.environ.get("TOY_STARTS"):
    with open(starts, "a") as file:
        print(stage, os.getpid(), file=file)
told = os.environ.get("TOY_" + stage.upper(), "")
if told.startswith("sleep:"):
    below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(starts, "a") as file:
        print("below", below.pid, file=file)
    end = time.monotonic() + float(told.partition(":")[2])
    while time.monotonic() < end and there():
        time.sleep(0.05)
    below.kill()
    below.wait()
    if not there():
        sys.exit(1)
if told == "refuse":
    message = "data/raw/rows.txt:3: expected 2 fields, got 1. Repair the row."
    record = {"exit_code": 2, "message": message, "stage": stage}
    pathlib.Path(os.environ["GLMOPS_STAGE_ERROR"]).write_text(json.dumps(record))
    sys.exit(2)
if told == "die":
    os.kill(os.getpid(), 9)
if told == "die-once":
    mark = pathlib.Path(starts + ".died")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), 9)
raw = yaml.safe_load(pathlib.Path("params.yaml").read_text())["recipes"][name]["raw"]
prepared, model = pathlib.Path("data/prepared", name), pathlib.Path("models", name)
scores = pathlib.Path("reports", name, "evaluate")
inputs = {"prepare": [pathlib.Path(raw)], "train": [prepared], "evaluate": [prepared, model]}[stage]
out = {"prepare": prepared, "train": model, "evaluate": scores}[stage]
files = [file for path in inputs for file in ([path] if path.is_file() else sorted(path.iterdir()))]
text = "".join(file.read_text() for file in files)
out.mkdir(parents=True)
(out / "out.txt").write_text(text + stage + json.dumps(section, sort_keys=True) + "\\n")
"""


def make_project(root: Path, *, commit: bool = True) -> Path:
    """The project at ``root``; its recipe is the demo's own, so every override there is valid."""
    files = {
        "dvc.yaml": DVC_YAML,
        "params.yaml": "recipes:\n  demo: {raw: data/samples}\n",
        "recipes/demo.yaml": (ROOT / "recipes" / "demo.yaml").read_text(encoding="utf-8"),
        "code/stage.py": STAGE,
        "code/train.py": "# only train depends on this\n",
        "data/samples/rows.txt": "一\n二\n",
        ".dvc/config": "[core]\n    analytics = false\n    check_update = false\n",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        ".dvcignore": "__pycache__\n.glmops\n",
        ".gitignore": "/data/prepared/\n/data/raw/*\n/models/\n/reports/\n/toy-registry/\n",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    git(root, "init", "-q")
    if commit:
        git(root, "add", "-A")
        git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "toy")
    return root


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    return done.stdout


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new), encoding="utf-8")


@dataclass(frozen=True)
class ToyVerdict:
    passed: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ToyRegistration:
    digest: str
    verdict: ToyVerdict
    already: bool


@dataclass(frozen=True)
class ToyRegistry:
    """One JSON file per candidate, in the project; ``refuse`` is the verdict on all of them."""

    refuse: bool = False

    def register(
        self, root: Path, layout: Layout, recipe: Recipe, *, overrides: Mapping[str, Any]
    ) -> ToyRegistration:
        found = self.already_registered(root, layout, recipe, overrides=overrides)
        if found is None:
            write_json(self._file(root, layout), dict(overrides))
        return found or ToyRegistration(self._digest(layout), self._verdict(), False)

    def already_registered(
        self, root: Path, layout: Layout, recipe: Recipe, *, overrides: Mapping[str, Any]
    ) -> ToyRegistration | None:
        if not self._file(root, layout).is_file():
            return None
        return ToyRegistration(self._digest(layout), self._verdict(), True)

    def _verdict(self) -> ToyVerdict:
        return ToyVerdict(not self.refuse, ("accuracy 0.1 is below 0.9",) if self.refuse else ())

    def _file(self, root: Path, layout: Layout) -> Path:
        return root / "toy-registry" / f"{self._digest(layout)}.json"

    def _digest(self, layout: Layout) -> str:
        return sha256_tree(layout.model)["out.txt"][:12]


def candidates(root: Path) -> dict[str, Any]:
    return {file.stem: read_json(file) for file in sorted((root / "toy-registry").glob("*.json"))}


@dataclass(frozen=True)
class Done:
    """A driver process that has ended."""

    code: int
    outcome: dict[str, Any]
    said: str
    starts: list[str] = field(default_factory=list)
    """The stages whose process was started, in order."""


def driver_command(root: Path, arguments: Mapping[str, Any]) -> list[str]:
    return [sys.executable, str(Path(__file__)), str(root), json.dumps(dict(arguments))]


def driver_environment(root: Path, **variables: str) -> dict[str, str]:
    """As a user's shell has it: pytest's own Prefect settings are not there."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    starts = str(root.parent / f"{root.name}.starts")
    return {**kept, "PYTHONPATH": str(ROOT), "TOY_STARTS": starts, **variables}


def starts(root: Path) -> list[tuple[str, int]]:
    """(stage or "below", pid) of every process that a stage noted, in order."""
    path = root.parent / f"{root.name}.starts"
    lines = path.read_text().split("\n") if path.is_file() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines if line]


def still_alive(pids: list[int]) -> list[int]:
    """Those that run. A zombie does not: in a container without an init nobody buries it."""
    alive = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                alive.append(pid)
        except psutil.NoSuchProcess:
            continue
    return alive


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """The first true value of ``condition``; fails when it stays false."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return found


def drive(root: Path, variables: Mapping[str, str] | None = None, **arguments: Any) -> Done:
    """Run the driver in a process of its own, as `glmops run demo` does."""
    before = len(starts(root))
    done = subprocess.run(
        driver_command(root, arguments), env=driver_environment(root, **(variables or {})),
        cwd=root, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    lines = done.stdout.strip().split("\n")
    outcome = json.loads(lines[-1]) if lines[-1].startswith("{") else {}
    ran = [stage for stage, _ in starts(root)[before:] if stage != "below"]
    return Done(done.returncode, outcome, done.stdout + done.stderr, ran)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    from flows.run import run

    root, arguments = Path(sys.argv[1]), json.loads(sys.argv[2])
    registry: Any = ToyRegistry(refuse=arguments.pop("refuse", False))
    write = sys.stdout.write
    try:
        outcome = run(root, "demo", say=say, registry=registry, **arguments)
    except GlmopsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    loaded = [
        name for name in ("prefect", "mlflow", "torch", "transformers") if name in sys.modules
    ]
    said = {"executed": outcome.executed, "kept": outcome.kept, "forecast": outcome.forecast}
    write(json.dumps({**said, "loaded": loaded}) + "\n")
    sys.stdout.flush()
    sys.exit(outcome.exit_code)


if __name__ == "__main__":
    main()
