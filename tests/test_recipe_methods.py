"""A recipe with another method: whole, small in a smoke run, and the rest of it untouched."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from flows.overrides import overridden
from glmops.errors import RecipeError
from glmops.models.small import ARCHITECTURES
from glmops.recipe import Recipe, load_recipe, parse, recipe_values
from glmops.recipe.methods import METHODS, TARGETS, settings_for, with_method
from glmops.train.methods import METHODS as TRAINED
from toy_model import base_settings, tokenizer, train_settings

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
FROM_SCRATCH = ("toutiao-gpt1", "toutiao-gpt2")


def edited(name: str, method: str, *, smoke: bool = False) -> Recipe:
    """As a run with these settings has it: by way of `-S`."""
    from flows.overrides import edited_recipe

    values = recipe_values(ROOT, name)
    full_name = f"{name}-smoke" if smoke else name
    settings = settings_for(name, values, method, smoke=smoke)
    changes = overridden(ROOT, full_name, settings)
    return parse(Recipe, edited_recipe(ROOT, full_name, changes), full_name)


@pytest.mark.parametrize("smoke", [False, True], ids=["real", "smoke"])
@pytest.mark.parametrize("method", ["lora", "prefix", "full"])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in FROM_SCRATCH])
def test_only_the_method_changes_and_what_belongs_to_it(
    name: str, method: str, smoke: bool
) -> None:
    made = edited(name, method, smoke=smoke)
    recipe = load_recipe(ROOT, f"{name}-smoke" if smoke else name)
    assert made.train.method == method
    same = ("prepare", "encode", "evaluate", "promote")
    assert all(getattr(made, section) == getattr(recipe, section) for section in same)
    for key in ("seed", "base", "precision", "launch", "best", "threads"):
        assert getattr(made.train, key) == getattr(recipe.train, key), key
    rate = {"learning_rate": recipe.train.schedule.learning_rate}
    assert made.train.schedule.model_copy(update=rate) == recipe.train.schedule


@pytest.mark.parametrize("name", NAMES)
def test_its_own_method_is_the_recipe_itself(name: str) -> None:
    values = recipe_values(ROOT, name)
    before = deepcopy(values)
    assert settings_for(name, values, values["train"]["method"], smoke=False) == []
    for method in METHODS:
        try:
            with_method(name, values, method)
        except RecipeError:
            continue
    assert values == before


def test_the_defaults_are_the_published_ones() -> None:
    """The authors' comparison on ChatGLM-6B: LoRA 5e-4, P-tuning 2e-2 with 128 slots, all weights
    1e-4; the LoRA scripts' rank 8, alpha 32, dropout 0.1."""
    lora = edited("adgen-ptuning", "lora").train
    assert lora.lora is not None
    assert (lora.lora.rank, lora.lora.alpha, lora.lora.dropout) == (8, 32, 0.1)
    assert (lora.schedule.learning_rate, lora.quantization) == (5e-4, "nf4")
    prefix = edited("adgen-lora", "prefix").train
    assert prefix.prefix is not None
    assert (prefix.prefix.length, prefix.schedule.learning_rate) == (128, 2e-2)
    full = edited("adgen-ptuning", "full").train
    assert (full.schedule.learning_rate, full.quantization, full.export) == (1e-4, "none", "merged")
    # A fifth of LoRA's, as 1e-4 is of 5e-4.
    assert edited("demo", "full").train.schedule.learning_rate == pytest.approx(0.003 / 5)


def test_a_smoke_run_of_a_method_is_small_too() -> None:
    made = edited("adgen-lora", "prefix", smoke=True).train.prefix
    own = load_recipe(ROOT, "adgen-ptuning-smoke").train.prefix
    assert made is not None
    assert own is not None
    assert made.length == own.length == 8


def test_scratch_drops_the_base_and_its_text() -> None:
    made = edited("demo", "scratch")
    assert made.encode.base_text == "none"
    assert getattr(made.train.base, "schedule", "?") is None
    assert made.train.schedule.learning_rate == 0.005  # what the demo's base learns with


@pytest.mark.parametrize(
    ("name", "method", "said"),
    [
        ("toutiao-gpt2", "lora", "trains from scratch, so there is no base"),
        ("adgen-lora", "scratch", "gives no sizes to start anew with"),
        ("demo", "qlora", "unknown method, got 'qlora'. Known: lora, prefix, full, scratch"),
    ],
)
def test_a_method_that_cannot_be_is_refused_with_the_reason(
    name: str, method: str, said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        with_method(name, recipe_values(ROOT, name), method)


def test_gpt1_gets_no_prefix() -> None:
    values: dict[str, Any] = recipe_values(ROOT, "demo")
    values["train"]["base"]["architecture"] = "gpt1"
    with pytest.raises(RecipeError, match="cannot be given a prefix"):
        with_method("mine", values, "prefix")


@pytest.mark.parametrize("architecture", sorted(TARGETS))
def test_the_layers_that_lora_adapts_by_default_are_there(architecture: str) -> None:
    sizes = {"kv_heads": 2, "intermediate_size": 128}  # what every architecture allows
    settings = base_settings(architecture=architecture, **sizes)
    model = ARCHITECTURES[architecture](settings, tokenizer(), max_tokens=80, seed=1)
    lora = {"rank": 8, "alpha": 32, "dropout": 0.1, "targets": TARGETS[architecture]}
    adapted = TRAINED["lora"](model, train_settings(lora=lora))
    trained = [name for name, each in adapted.named_parameters() if each.requires_grad]
    assert all(any(target in name for name in trained) for target in TARGETS[architecture])


def test_the_bake_off_knows_the_methods_that_can_be_trained() -> None:
    assert set(METHODS) == set(TRAINED)
