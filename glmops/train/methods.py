"""The ways to train, by the name a recipe uses: model and settings in, model to optimise out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from glmops.errors import RecipeError
from glmops.models.quantization import is_quantised, quieten, require_full_precision
from glmops.recipe import Lora, Prefix, Train


def all_weights(model: Any, settings: Train) -> Any:
    """Every weight is trained: a model from scratch, or full-parameter fine-tuning."""
    return model.requires_grad_(True)


def low_rank(model: Any, settings: Train) -> Any:
    """LoRA: the model is frozen and each target matrix gets a low-rank pair beside it.

    Raises:
        RecipeError: A target is the name of no linear layer of this model.
    """
    assert isinstance(settings.lora, Lora)
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
        # The GPTs' layers hold their weights the other way round.
        fan_in_fan_out=model.config.model_type in ("gpt2", "openai-gpt"),
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(settings.seed)
    with warnings.catch_warnings():
        # peft 0.21 still asks transformers 5.23 by the old name of activation checkpointing.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        return get_peft_model(model, config)


def prefix_slots(model: Any, settings: Train) -> Any:
    """P-tuning v2: the model is frozen and every layer attends to trained slots in front."""
    from glmops.models.prefix import attach_prefix

    assert isinstance(settings.prefix, Prefix)
    if is_quantised(model):
        # Trainer trains nothing on quantised weights unless it sees an adapter, and knows peft's
        # alone. This is what a model says that has one.
        model._hf_peft_config_loaded = True
    return attach_prefix(
        model,
        length=settings.prefix.length,
        projection=settings.prefix.projection,
        dropout=settings.prefix.dropout,
        seed=settings.seed,
    )


METHODS: dict[str, Callable[[Any, Train], Any]] = {
    "lora": low_rank,
    "prefix": prefix_slots,
    "full": all_weights,
    "scratch": all_weights,
}


def merged(model: Any) -> Any:
    """The plain model again, with what an adapter learnt added to its weights.

    Raises:
        InputError: The weights are quantised: merging into them would round the adapter away.
    """
    require_full_precision(model)
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def _transposed(model: Any, targets: Sequence[str]) -> bool:
    """GPT-1 and GPT-2 store their matrices the other way round, as long as they are not quantised;
    all of them."""
    from transformers.pytorch_utils import Conv1D

    return any(
        isinstance(module, Conv1D) and name.rpartition(".")[2] in targets
        for name, module in model.named_modules()
    )


def _linear_names(model: Any) -> set[str]:
    """Last parts of the names of the linear layers, the output head left out (it is tied)."""
    from transformers.pytorch_utils import Conv1D

    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    }
    return names - {"lm_head"}
