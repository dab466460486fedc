"""A recipe's smoke run: the same stages, method and architecture, so small that a CPU does it in
minutes, on the sample rows of its format.

``recipes/NAME.yaml`` is the only file: ``NAME-smoke`` is derived from it, and registers its
candidates under a name of its own. Pure: plain values in, plain values out.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from glmops.errors import RecipeError
from glmops.recipe.prepare import Prepare

SUFFIX = "-smoke"
SAMPLES = {
    "toutiao": "toutiao",
    "adgen": "adgen",
    "alpaca": "alpaca",
    "paper": "paper",
    "context-target": "mixed",
    "conversations": "conversations",
}
"""Format → its folder below data/samples."""

ARCHITECTURES = {
    "chatglm": "chatglm",
    "chatglm2": "glm",
    "chatglm3": "glm",
    "glm": "glm",
    "gpt": "gpt2",
}
"""Token layout → what a checkpoint that reads it is built like."""

# In whole blocks of 64, which is what 4-bit weights are stored in; GPT-1's inner width is four
# times the outer one.
WIDTHS = {"hidden_size": 64, "intermediate_size": 256, "layers": 2, "heads": 4}
VOCABULARY = 1200
MAX_PROMPT_TOKENS = 256
MIN_ANSWER_TOKENS, MAX_ANSWER_TOKENS = 128, 256
BASE_STEPS, STEPS = 30, 30
LEARNING_RATE = 0.003
"""The least: what teaches a model of billions teaches so small a one nothing."""
MAX_NEW_TOKENS = 48
THREADS = 1
"""So small a model is fastest on one."""


def of(name: str) -> str:
    """The name under which the smoke run of recipe ``name`` is known."""
    return f"{name}{SUFFIX}"


def smoke_values(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of the smoke run, as plain values.

    Args:
        name: Of the recipe, for the description.
        values: A recipe that was checked, as its file has it.
    """
    made = deepcopy(dict(values))
    made["description"] = (
        f"A smoke run of {name}: a tiny model, a few dozen steps, sample rows. It proves that the "
        "recipe runs whole; its scores say nothing about the recipe's model."
    )
    made["prepare"] = _prepare(made["prepare"])
    made["encode"] = _encode(made["encode"], made["train"])
    made["train"] = _train(made["train"], made["encode"]["family"])
    made["evaluate"] |= {
        "batch_size": min(made["evaluate"]["batch_size"], 32),
        "max_new_tokens": min(made["evaluate"]["max_new_tokens"], MAX_NEW_TOKENS),
        "threads": min(made["evaluate"]["threads"], THREADS),
    }
    # Any candidate that has scores passes: it is there to be looked at.
    made["promote"] = {"floors": dict.fromkeys(made["promote"]["floors"], 0.0), "approvals": 1}
    return made


def smoke_raw(name: str, prepare: Prepare) -> str:
    """Where the sample rows lie that the smoke run reads, relative to the project.

    Raises:
        RecipeError: A format without sample rows: a table is what its columns say.
    """
    formats = {source.format for source in prepare.all_sources}
    if missing := sorted(formats - set(SAMPLES)):
        raise RecipeError(
            f"recipe {name} --smoke",
            "there are no sample rows of this format",
            got=missing[0],
            do=f"Give some of your own: `glmops run {name} --smoke --raw PATH`.",
        )
    return f"data/samples/{SAMPLES[formats.pop()]}" if len(formats) == 1 else "data/samples"


def _prepare(section: dict[str, Any]) -> dict[str, Any]:
    """The same reading of rows, whatever files they lie in and side they were published on."""
    section["split"] = {**section["split"], "dev": 0.05, "test": 0.05}
    section.pop("labels", None)  # the samples' own may be fewer
    if "sources" not in section:
        return section
    published = ("files", "side", "weight")
    kept: list[dict[str, Any]] = []
    for source in section.pop("sources"):
        reading = {key: value for key, value in source.items() if key not in published}
        if reading not in kept:
            kept.append(reading)
    if len(kept) == 1:
        return {**section, **kept[0]}
    files = [{**each, "files": f"{SAMPLES.get(each['format'], '')}/*"} for each in kept]
    return {**section, "sources": files}


def _encode(section: dict[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    answer = min(max(section["max_answer_tokens"], MIN_ANSWER_TOKENS), MAX_ANSWER_TOKENS)
    made = {
        **section,
        "tokenizer": {"train": "byte-bpe", "vocab_size": VOCABULARY},
        "max_prompt_tokens": min(section["max_prompt_tokens"], MAX_PROMPT_TOKENS),
        "max_answer_tokens": answer,
        "base_text": "none" if train["method"] == "scratch" else "shuffled-targets",
    }
    if "pack_tokens" in section:
        made["pack_tokens"] = made["max_prompt_tokens"] + answer
    return made


def _train(section: dict[str, Any], family: str) -> dict[str, Any]:
    base = section["base"]
    if base["method"] == "scratch":
        architecture = base.get("architecture", "glm")
    else:
        architecture = ARCHITECTURES[family]
    grouped = architecture == "glm" and base.get("kv_heads") != base.get("heads", 0)
    made = {
        **section,
        "threads": min(section["threads"], THREADS),
        "base": {
            "method": "scratch",
            "architecture": architecture,
            **WIDTHS,
            "kv_heads": 2 if grouped else WIDTHS["heads"],
        },
        "schedule": _schedule(section["schedule"]),
        "launch": _launch(section.get("launch", {})),
        "compile": False,
    }
    if section["method"] != "scratch":
        made["base"]["schedule"] = {
            "max_steps": BASE_STEPS,
            "batch_size": 8,
            "learning_rate": LEARNING_RATE,
            "warmup_fraction": 0.1,
            "weight_decay": 0.0,
        }
    if "prefix" in section:
        made["prefix"] = {**section["prefix"], "length": min(section["prefix"]["length"], 8)}
    if section.get("precision") == "float16":
        made["precision"] = "float32"  # no CPU trains in float16
    if "best" in section:
        made["best"] = {**section["best"], "every_steps": STEPS // 2}
    return made


def _schedule(section: dict[str, Any]) -> dict[str, Any]:
    """The same rows in a step and the same shape of the learning rate, for a few steps."""
    length = ("epochs", "max_steps", "warmup_steps", "warmup_fraction")
    made = {key: value for key, value in section.items() if key not in length}
    if "batch_tokens" in made:
        made["batch_tokens"] = min(made["batch_tokens"], 4096)
    if "batch_size" in made:
        made["batch_size"] = min(made["batch_size"], 16)
    rate = max(made["learning_rate"], LEARNING_RATE)
    return {**made, "learning_rate": rate, "max_steps": STEPS, "warmup_fraction": 0.1}


def _launch(section: dict[str, Any]) -> dict[str, Any]:
    """The same engine; two processes where the recipe has several, on this machine."""
    several = section.get("processes", 1) * section.get("nodes", 1) > 1
    return {**section, "processes": 2 if several else 1, "nodes": 1}
