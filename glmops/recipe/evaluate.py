"""The evaluate section: which rows are answered, how, and what the answers are measured beside."""

from __future__ import annotations

from typing import Literal

from glmops.recipe.section import Positive, Section
from glmops.recipe.train import Threads

Baseline = Literal["majority", "linear", "nearest", "base"]


class Evaluate(Section):
    split: Literal["dev", "test"]
    engine: Literal["transformers", "vllm"] = "transformers"
    """vllm: for merged checkpoints, where it is installed; a GPU machine's choice."""
    batch_size: Positive
    max_new_tokens: Positive
    threads: Threads
    """CPU threads of torch, and processes of the text metrics."""
    label_likelihood: bool = True
    """Classification rows are also scored by the likelihood of every taught label."""
    baselines: tuple[Baseline, ...] = ("majority", "linear", "nearest")
    """What each task's scores stand beside, as far as it fits the task. base: the untouched
    pretrained model answers the same rows, too, which takes as long as the candidate does."""
