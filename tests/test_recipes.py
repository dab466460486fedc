"""The recipes that come with the project carry the published settings, and every one has a smoke
run. The numbers are those of the published scripts and texts, as docs and comments name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glmops.recipe import Recipe, load_params, load_recipe
from glmops.recipe.smoke import SAMPLES

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
ZEROS = "0" * 64
QKV = ("query_key_value",)
SPLIT_QKV = ("q_proj", "k_proj", "v_proj")  # what that is in transformers' own GLM

PUBLISHED: dict[str, dict[str, Any]] = {
    "toutiao-gpt1": {"architecture": "gpt1", "method": "scratch", "prompt_loss": 1.0},
    "toutiao-gpt2": {"architecture": "gpt2", "method": "scratch"},
    "adgen-ptuning": {
        "tokens": (64, 64), "prefix": (128, False), "steps": 3000, "rate": 2e-2, "rows": (1, 16),
        "quantization": "nf4", "base": "models/base/chatglm-6b",
    },
    "adgen-lora": {
        "tokens": (64, 64), "steps": 3000, "rate": 5e-4, "rows": (16, 1), "targets": QKV,
    },
    "adgen-full": {
        "tokens": (64, 64), "method": "full", "steps": 5000, "rate": 1e-4, "rows": (4, 1),
        "launch": (4, "deepspeed", 2), "precision": "float16",
    },
    "alpaca-lora": {
        "tokens": (512, 512), "lora": (8, 32, 0.1), "targets": QKV, "decay": "cosine",
        "warmup": 1000, "held_out": 0.2,
    },
    "paper-label-lora": {
        "rank": 8, "rate": 5e-5, "rows": (4, 4), "epochs": 3, "decay": "cosine",
        "targets": SPLIT_QKV, "base": "models/base/chatglm2-6b",
    },
    "paper-keywords-lora": {
        "rank": 8, "rate": 5e-5, "rows": (4, 4), "epochs": 3, "decay": "cosine",
        "targets": SPLIT_QKV,
    },
    "multitask-lora": {
        "tokens": (400, 300), "lora": (8, 32, 0.1), "rate": 3e-5, "epochs": 2, "rows": (1, 1),
        "decay": "linear", "warmup": 0.06, "targets": QKV, "export": "merged",
    },
    "multitask-ptuning": {
        "tokens": (400, 300), "prefix": (128, False), "rate": 2e-4, "epochs": 2, "rows": (1, 1),
        "decay": "linear", "warmup": 0.06,
    },
}  # fmt: skip


def settings_of(recipe: Recipe) -> dict[str, Any]:
    train, base, schedule = recipe.train, recipe.train.base, recipe.train.schedule
    lora, prefix, split = train.lora, train.prefix, recipe.prepare.split
    return {
        "architecture": getattr(base, "architecture", None),
        "base": getattr(base, "path", None),
        "tokens": (recipe.encode.max_prompt_tokens, recipe.encode.max_answer_tokens),
        "method": train.method,
        "prompt_loss": train.prompt_loss,
        "prefix": prefix and (prefix.length, prefix.projection),
        "lora": lora and (lora.rank, lora.alpha, lora.dropout),
        "rank": lora and lora.rank,
        "targets": lora and lora.targets,
        "steps": schedule.max_steps,
        "epochs": schedule.epochs,
        "rate": schedule.learning_rate,
        "rows": (schedule.batch_size, schedule.accumulation),
        "decay": schedule.decay,
        "warmup": schedule.warmup_steps or schedule.warmup_fraction,
        "quantization": train.quantization,
        "precision": train.precision,
        "launch": (train.launch.processes, train.launch.engine, train.launch.zero),
        "export": train.export,
        "held_out": split.dev + split.test,
    }


def test_there_is_a_recipe_for_every_published_system() -> None:
    assert set(PUBLISHED) | {"demo"} == set(NAMES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_published_settings(name: str) -> None:
    found = settings_of(load_recipe(ROOT, name))
    assert {key: found[key] for key in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_base_is_the_users_to_put_and_to_pin(name: str) -> None:
    recipe = load_recipe(ROOT, name)
    base, tokenizer = recipe.train.base, recipe.encode.tokenizer
    if base.method == "scratch":
        return
    assert (base.sha256, tokenizer.sha256) == (ZEROS, ZEROS)
    assert base.path == tokenizer.path
    assert base.path.startswith("models/base/")  # which git and DVC ignore
    assert "/models/base" in (ROOT / ".dvcignore").read_text().split()


def test_a_newcomer_builds_the_demo_alone() -> None:
    """The others need rows and a checkpoint of the user's: listed, they would fail `dvc repro`."""
    assert set(load_params(ROOT).recipes) == {"demo"}


@pytest.mark.parametrize("name", NAMES)
def test_a_smoke_run_is_the_recipe_made_small(name: str) -> None:
    recipe, smoke = load_recipe(ROOT, name), load_recipe(ROOT, f"{name}-smoke")
    kept = ("method", "quantization", "gradient_checkpointing", "prompt_loss", "export")
    for key in kept:
        assert getattr(smoke.train, key) == getattr(recipe.train, key), key
    assert smoke.train.launch.engine == recipe.train.launch.engine
    assert smoke.train.launch.processes <= 2
    assert smoke.train.schedule.accumulation == recipe.train.schedule.accumulation
    assert (smoke.train.lora is None) == (recipe.train.lora is None)
    if recipe.train.lora and smoke.train.lora:
        assert smoke.train.lora == recipe.train.lora
    assert smoke.encode.family == recipe.encode.family
    assert smoke.prepare.tasks == recipe.prepare.tasks
    assert smoke.prepare.templates == recipe.prepare.templates
    base = smoke.train.base
    assert base.method == "scratch"
    assert base.hidden_size % 64 == 0  # in whole blocks of 4-bit weights
    if recipe.train.base.method == "scratch":
        assert base.architecture == recipe.train.base.architecture
    assert set(smoke.promote.floors) == set(recipe.promote.floors)
    assert not any(smoke.promote.floors.values())
    assert "It proves that the recipe runs whole" in smoke.description
    assert name in smoke.description


def test_every_format_with_sample_rows_has_them() -> None:
    for folder in SAMPLES.values():
        assert (ROOT / "data" / "samples" / folder).is_dir(), folder
