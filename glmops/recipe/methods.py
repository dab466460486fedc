"""A recipe with another training method in place of its own: what a bake-off compares.

The rows, the base, the steps and the seed stay. What the other method needs and the recipe does not
say comes from here; every value can be set for one run (`-S`). Pure: plain values in and out.

    lora      rank 8, alpha 32, dropout 0.1 on the attention's inputs: the published scripts' values
    prefix    128 slots, no projection; 16 on a base made here, whose prompts are short
    full      no settings of its own; nothing is quantised
    scratch   what the base's architecture learns without a base under it
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from glmops.errors import RecipeError
from glmops.recipe.smoke import ARCHITECTURES, smoke_values

METHODS = ("lora", "prefix", "full", "scratch")

LORA = {"rank": 8, "alpha": 32, "dropout": 0.1}
TARGETS = {
    "chatglm": ["query_key_value"],
    "glm": ["q_proj", "k_proj", "v_proj"],
    "gpt1": ["c_attn"],
    "gpt2": ["c_attn"],
}
"""Architecture → the linear layers that the published LoRA scripts adapt, by their name in it."""

SLOTS, SLOTS_OF_A_SMALL_BASE = 128, 16
RATES = {"lora": 5e-4, "prefix": 2e-2, "full": 1e-4}
"""Of the authors' own comparison on ChatGLM-6B and AdvertiseGen. Between lora and full only their
ratio is used: 5. A prefix starts from nothing, so its rate is the same on every base."""

_DEFAULTS = {"quantization": "none"}
"""What a key means that is left out; of all others that the methods bring or take it is null."""


def with_method(name: str, values: Mapping[str, Any], method: str) -> dict[str, Any]:
    """``values`` with ``method`` as train.method, and what that brings with it.

    Args:
        name: Of the recipe, for messages.
        values: A recipe that was checked, as its file has it.
    Raises:
        RecipeError: An unknown method, or one that nothing of this recipe can be trained by.
    """
    _require_possible(name, values, method)
    made = deepcopy(dict(values))
    train, own = made["train"], values["train"]["method"]
    if method == own:
        return made
    train["schedule"]["learning_rate"] = _rate(method, own, train)
    for section in ("lora", "prefix"):
        train.pop(section, None)
    if method == "lora":
        train["lora"] = _lora(made)
    elif method == "prefix":
        train["prefix"] = _prefix(train["base"])
    else:
        train.pop("quantization", None)
    if method == "scratch":
        train["base"].pop("schedule", None)
        made["encode"]["base_text"] = "none"
    # LoRA is kept as the recipe's own method was; the others leave no choice.
    exports = {"prefix": "adapter", "full": "merged", "scratch": "merged"}
    return {
        **made,
        "train": {**train, "method": method, "export": exports.get(method, train["export"])},
    }


def settings_for(name: str, values: Mapping[str, Any], method: str, *, smoke: bool) -> list[str]:
    """What to give to `-S` so that a run of recipe ``name`` trains by ``method``.

    Args:
        values: The recipe as its file has it, also for a smoke run.
        smoke: For the smoke run of the recipe, which is small in these settings, too.
    """
    before, after = dict(values), with_method(name, values, method)
    if smoke:
        before, after = smoke_values(name, before), smoke_values(name, after)
    return [
        f"{key}={json.dumps(value, ensure_ascii=False)}"
        for section in ("encode", "train")
        for key, value in _differences(before[section], after[section], section)
    ]


def _require_possible(name: str, values: Mapping[str, Any], method: str) -> None:
    train = values["train"]
    base, own = train["base"], train["method"]
    where = f"recipe {name}, method {method}"
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise RecipeError(f"recipe {name}", "unknown method", got=method, do=f"Known: {known}.")
    if method != own and own == "scratch":
        raise RecipeError(
            where,
            "the recipe trains from scratch, so there is no base to put the method on",
            do="Give train.base a schedule or a pretrained checkpoint, or leave the method out.",
        )
    if method == "scratch" and base["method"] == "pretrained":
        raise RecipeError(
            where,
            "a pretrained checkpoint is a base to build on, and gives no sizes to start anew with",
            do="Leave the method out, or give the recipe a base of train.base.method: scratch.",
        )
    if method == "prefix" and base.get("architecture") == "gpt1":
        raise RecipeError(
            where, "GPT-1's attention cannot be given a prefix", do="Leave the method out."
        )


def _lora(values: Mapping[str, Any]) -> dict[str, Any]:
    base = values["train"]["base"]
    made_here = base["method"] == "scratch"
    architecture = base.get("architecture", "glm") if made_here else None
    return {**LORA, "targets": TARGETS[architecture or ARCHITECTURES[values["encode"]["family"]]]}


def _prefix(base: Mapping[str, Any]) -> dict[str, Any]:
    length = SLOTS if base["method"] == "pretrained" else SLOTS_OF_A_SMALL_BASE
    return {"length": length, "projection": False}


def _rate(method: str, own: str, train: Mapping[str, Any]) -> float:
    rate: float = train["schedule"]["learning_rate"]
    if method == "scratch":
        schedule = train["base"].get("schedule") or {}
        return float(schedule.get("learning_rate", rate))
    if "prefix" in (method, own):
        return RATES[method]
    return float(f"{rate * RATES[method] / RATES[own]:.3g}")


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str
) -> Sequence[tuple[str, Any]]:
    """Key → value where ``after`` has another one; a schedule is looked into, and nothing else."""
    found: list[tuple[str, Any]] = []
    for key in [*after, *(key for key in before if key not in after)]:
        old, new = before.get(key), after.get(key, _DEFAULTS.get(key))
        if old == new:
            continue
        if key in ("schedule", "base") and isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}.{key}")
        else:
            found.append((f"{prefix}.{key}", new))
    return found
