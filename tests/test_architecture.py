"""The house rules that no linter knows: five words everywhere, honest DVC deps, a light door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
import yaml

from glmops.recipe import Recipe, load_params, load_recipe
from glmops.storage import STAGES

ROOT = Path(__file__).parents[1]
WORDS = (*STAGES, "promote")

# Everything may import these without depending on them for staleness: errors and recipe, because a
# new field of one section must not retrain; process, because it only starts and ends a stage.
EXCEPTED = {"glmops", "pipelines", "glmops.errors", "glmops.recipe", "pipelines.process"}

HEAVY = ("torch", "transformers", "peft", "mlflow", "prefect", "dvc", "great_expectations")


def dvc_stages() -> dict[str, dict]:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return {name: stage["do"] for name, stage in stages.items()}


def test_the_same_five_words_name_sections_folders_files_and_stages() -> None:
    assert tuple(Recipe.model_fields)[1:] == WORDS
    assert tuple(dvc_stages()) == STAGES
    # rescore is the evaluate stage for a champion on a candidate's rows: promote starts it.
    others = {"__init__", "process", "rescore"}
    assert {path.stem for path in (ROOT / "pipelines").glob("*.py")} - others == {*STAGES}
    for word in WORDS:
        assert (ROOT / "glmops" / word).is_dir()
        assert (ROOT / "tests" / word).is_dir()


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_a_stage_can_import_is_among_its_dvc_deps(stage: str) -> None:
    graph = grimp.build_graph("glmops", "pipelines", cache_dir=None)
    deps = [ROOT / dep for dep in dvc_stages()[stage]["deps"] if "${" not in dep]
    reached = {f"pipelines.{stage}"} | graph.find_upstream_modules(f"pipelines.{stage}")
    for module in sorted(reached - EXCEPTED):
        if module.startswith("glmops.recipe."):
            continue
        file = ROOT / (module.replace(".", "/") + ".py")
        file = file if file.is_file() else file.with_suffix("") / "__init__.py"
        covered = any(file == dep or dep in file.parents for dep in deps)
        assert covered, f"{stage}@…: {module} is imported but is no dep in dvc.yaml"


@pytest.mark.parametrize("stage", STAGES)
def test_every_code_dep_exists_and_only_the_own_section_is_a_param(stage: str) -> None:
    for dep in dvc_stages()[stage]["deps"]:
        if "${" not in dep:
            assert (ROOT / dep).exists(), dep
    assert dvc_stages()[stage]["params"] == [{"recipes/${key}.yaml": [stage]}]


def test_no_command_of_a_stage_carries_a_path_or_a_value() -> None:
    for stage, definition in dvc_stages().items():
        assert definition["cmd"] == f"exec python -m pipelines.{stage} ${{key}}"


def test_the_door_imports_only_errors_recipe_and_storage_at_the_top() -> None:
    tree = ast.parse((ROOT / "glmops" / "cli.py").read_text())
    top = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    ours = {module for module in top if module and module.split(".")[0] in ("glmops", "flows")}
    assert ours <= {
        "glmops.cli_bakeoff",
        "glmops.cli_compare",
        "glmops.cli_import",
        "glmops.cli_plan",
        "glmops.cli_score",
        "glmops.errors",
        "glmops.recipe",
        "glmops.storage",
    }


@pytest.mark.parametrize(
    "module",
    [
        "glmops.cli",
        "flows.run",
        "glmops.promote",
        "glmops.models",
        *(f"glmops.{w}" for w in STAGES),
    ],
)
def test_importing_a_room_loads_no_heavy_library(module: str) -> None:
    script = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_every_listed_recipe_loads_and_every_recipe_file_is_whole() -> None:
    assert set(load_params(ROOT).recipes) <= {p.stem for p in (ROOT / "recipes").glob("*.yaml")}
    for path in (ROOT / "recipes").glob("*.yaml"):
        load_recipe(ROOT, path.stem)


def test_no_file_of_ours_is_longer_than_300_lines() -> None:
    for package in ("glmops", "pipelines", "flows"):
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 300, path
