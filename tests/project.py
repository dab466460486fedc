"""A project of its own for each story: a copy of this one, in git, with a recipe that runs fast."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]

# The demo at a tenth of its training: it answers badly, which a floor of zero lets pass.
QUICK = {
    "prepare.split.dev": 0.03,
    "prepare.split.test": 0.05,
    "train.base.schedule.epochs": 0.2,
    "train.schedule.epochs": 0.2,
    "evaluate.max_new_tokens": 8,
    "promote.floors": {"classification/accuracy": 0.0, "triples/f1": 0.0},
    "promote.max_regression": {},
}


@dataclass(frozen=True)
class Project:
    """A clone of this project that a test may do anything to."""

    root: Path

    def glmops(
        self, *arguments: str, code: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command as a user would; fail with its output if the exit code is another."""
        command = [str(Path(sys.executable).with_name("glmops")), *arguments]
        environment = {**os.environ, "COLUMNS": "200", **(env or {})}
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, capture_output=True, text=True, check=True
        )
        return done.stdout

    def set(self, **values: object) -> None:
        """Edit recipes/demo.yaml: section__key=value, as a person would, in place."""
        edit_recipe(self.root, {key.replace("__", "."): value for key, value in values.items()})


def edit_recipe(root: Path, values: dict[str, object]) -> None:
    path, yaml = root / "recipes" / "demo.yaml", YAML()
    recipe = yaml.load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        *sections, last = key.split(".")
        place = recipe
        for section in sections:
            place = place[section]
        place[last] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(recipe, file)


def copy_project(to: Path) -> Project:
    """The files that git tracks or would track, committed to a new repository at ``to``."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    to.mkdir(parents=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            (to / name).write_bytes((ROOT / name).read_bytes())
    project = Project(to)
    project.git("init", "-q")
    project.git("config", "user.name", "tester")
    project.git("config", "user.email", "tester@example.org")
    project.git("add", "-A")
    project.git("commit", "-qm", "copy")
    return project


def quick_project(to: Path) -> Project:
    """A copy of this project with the quick recipe, committed; nothing has run in it."""
    project = copy_project(to)
    edit_recipe(project.root, QUICK)
    project.git("commit", "-qam", "quick")
    return project
