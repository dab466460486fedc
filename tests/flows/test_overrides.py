"""`-S section.key=value` is read as it was meant, and refused before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.overrides import edited_recipe, overridden
from glmops.errors import RecipeError
from glmops.recipe import Recipe, load_recipe, parse


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        # A number to JSON and to YAML 1.2; a string to YAML 1.1, which our own reader speaks.
        ("train.schedule.learning_rate=1e-4", "train.schedule.learning_rate", 0.0001),
        ("train.seed=7", "train.seed", 7),
        (" train.seed = 7", "train.seed", 7),
        ("prepare.tasks=[triples, classification]", "prepare.tasks", ["triples", "classification"]),
        (
            'prepare.tasks=["triples","classification"]',
            "prepare.tasks",
            ["triples", "classification"],
        ),
        ("evaluate.split=dev", "evaluate.split", "dev"),
    ],
)
def test_a_value_is_read_as_yaml_or_json(toy: Path, setting: str, key: str, value: Any) -> None:
    assert overridden(toy, "demo", [setting]) == {key: value}


def test_the_later_of_two_values_for_a_key_counts(toy: Path) -> None:
    assert overridden(toy, "demo", ["train.seed=1", "train.seed=2"]) == {"train.seed": 2}


def test_only_the_named_value_changes(toy: Path) -> None:
    changes = overridden(toy, "demo", ["train.schedule.epochs=2.5"])
    before = load_recipe(toy, "demo").model_dump()
    after = parse(Recipe, edited_recipe(toy, "demo", changes), "edited").model_dump()
    before["train"]["schedule"]["epochs"] = 2.5
    assert after == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.lr=1", r"-S train\.lr: unknown key\. Known here: seed, "),
        ("train.schedule.rate=1", r"-S train\.schedule\.rate: unknown key"),
        ("train.seed=soon", r"-S train\.seed: .*got 'soon'"),
        ("train.seed=", r"-S train\.seed: .*got None"),
        ("train.seed.deeper=1", r"-S train\.seed\.deeper: 'seed' holds no keys"),
        ("evaluate.split=train", r"-S evaluate\.split: .*got 'train'"),
        ("promote.min_rows=1", r"-S promote\.min_rows: the gate's policy is not a run's to change"),
        ("promote=1", "expected section.key=value, got 'promote=1'"),
        ("train.seed", "expected section.key=value, got 'train.seed'"),
        ("train..seed=1", "expected section.key=value"),
        ("=1", "expected section.key=value"),
        ("optimise.seed=1", "unknown section, got 'optimise'"),
        ("train.seed=[1", r"-S train\.seed: not a YAML value"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(toy: Path, setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as refusal:
        overridden(toy, "demo", [setting])
    assert refusal.value.exit_code == 2
