"""The ways to train, by the name a recipe uses: model and settings in, model to optimise out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from glmops.errors import RecipeError
from glmops.models.quantization import quieten, require_full_precision
from glmops.recipe import Train


def all_weights(model: Any, settings: Train) -> Any:
    """Every weight is trained, as the recipe's base needs it."""
    return model.requires_grad_(True)


def low_rank(model: Any, settings: Train) -> Any:
    """LoRA: the model is frozen and each target matrix gets a low-rank pair beside it.

    Raises:
        RecipeError: A target is the name of no linear layer of this model.
    """
    quieten()
    from peft import LoraConfig, get_peft_model

    known = _linear_names(model)
    for target in settings.lora.targets:
        if target not in known:
            raise RecipeError(
                "train.lora.targets",
                "the model has no linear layer of this name",
                got=target,
                do=f"Known: {', '.join(sorted(known))}.",
            )
    config = LoraConfig(
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules=list(settings.lora.targets),
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(settings.seed)
    with warnings.catch_warnings():
        # peft 0.21 still asks transformers 5.23 by the old name of activation checkpointing.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        return get_peft_model(model, config)


METHODS: dict[str, Callable[[Any, Train], Any]] = {"lora": low_rank, "scratch": all_weights}


def merged(model: Any) -> Any:
    """The plain model again, with what an adapter learnt added to its weights.

    Raises:
        InputError: The weights are quantised: merging into them would round the adapter away.
    """
    require_full_precision(model)
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def _linear_names(model: Any) -> set[str]:
    """Last parts of the names of the linear layers, the output head left out (it is tied)."""
    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    return names - {"lm_head"}
