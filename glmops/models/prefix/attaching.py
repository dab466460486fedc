"""Making a prefix a part of a model that knows nothing of prefixes.

The prefix of a forward travels in its keyword arguments down to each layer. What gradient
checkpointing computes again in backward therefore finds the same tensor, whatever ran in between.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from glmops.errors import InputError
from glmops.models.prefix.attention import (
    ARGUMENT,
    IMPLEMENTATIONS,
    PrefixOfForward,
    eager_attention_of,
    register,
)
from glmops.models.prefix.encoder import PrefixEncoder, shape_of

# Families that build positions from the ids, and so leave padding out by themselves.
OWN_POSITIONS = ("chatglm-6b",)


def attach_prefix(
    model: Any, *, length: int, projection: bool, dropout: float = 0.1, seed: int | None = None
) -> Any:
    """``model`` with a new prefix of ``length`` slots; its own weights freeze.

    The encoder becomes a part of the model (``prefix_encoder`` of its base model), in float32 on
    the device of the embeddings, so that optimizers, DDP and moves to a device see it.

    Args:
        projection: Compute the slots through the official two-layer network.
        dropout: On keys and values, in training mode only; 0.1 is the published value.
        seed: Of the encoder's start; None takes torch's own generator as it stands.
    Raises:
        InputError: The model has a prefix or an adapter, or attends in a way that cannot be
            given one. Nothing is changed then.
    """
    implementation = _refuse_unfit(model)
    if length < 1 or not 0 <= dropout < 1:
        raise InputError(
            "a prefix",
            "needs a length of at least 1 and a dropout in [0, 1)",
            got=f"length {length}, dropout {dropout}",
            do="Change the two values.",
        )
    shape, base = shape_of(model.config), model.base_model
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        encoder = PrefixEncoder(shape, length, projection, dropout)
    register()
    model.set_attn_implementation(IMPLEMENTATIONS[implementation])
    model.requires_grad_(False)
    base.prefix_encoder = encoder.to(base.get_input_embeddings().weight.device)
    base.prefix_encoder.train(base.training)
    base.register_forward_pre_hook(_give_prefix, with_kwargs=True)
    base.register_forward_hook(_require_taken, with_kwargs=True)
    return model


def encoder_of(model: Any) -> PrefixEncoder | None:
    """The prefix of ``model``, if it has one."""
    encoder = getattr(getattr(model, "base_model", None), "prefix_encoder", None)
    return encoder if isinstance(encoder, PrefixEncoder) else None


def _refuse_unfit(model: Any) -> str:
    """The name of the attention that ``model`` uses and that a prefix can be put into."""
    from transformers import PreTrainedModel

    where = f"a prefix on {type(model).__name__}"
    if not isinstance(model, PreTrainedModel):
        raise InputError(
            where, "not a bare transformers model", do="Attach the prefix before anything else."
        )
    if getattr(model.base_model, "prefix_encoder", None) is not None:
        raise InputError(where, "it has a prefix already", do="Load the model again.")
    implementation = model.config._attn_implementation
    functional = model._can_set_attn_implementation()
    if implementation == "eager":
        layers = (each for each in model.modules() if hasattr(each, "layer_idx"))
        functional = functional and any(eager_attention_of(each) is not None for each in layers)
    if implementation not in IMPLEMENTATIONS or not functional:
        raise InputError(
            where,
            "its attention cannot be given a prefix",
            got=implementation,
            do="Load it with attn_implementation 'sdpa', or use LoRA on this model.",
        )
    return str(implementation)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _give_prefix(
    base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Before the base model's forward: the prefix, computed once for all layers."""
    named = (kwargs.get(name) for name in ("input_ids", "inputs_embeds"))
    rows = next((each for each in named if each is not None), args[0] if args else None)
    if rows is None:
        return args, kwargs  # the model itself complains better
    kv_NBHPD = base.prefix_encoder(
        batch=rows.shape[0],
        dtype=base.get_input_embeddings().weight.dtype,
        continues=kwargs.get("past_key_values") is not None and rows.shape[1] == 1,
    )
    given: dict[str, Any] = {ARGUMENT: PrefixOfForward(kv_NBHPD)}
    if (positions_BT := _positions(base, kwargs, rows.shape[1])) is not None:
        given["position_ids"] = positions_BT
    return args, {**kwargs, **given}


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _require_taken(base: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
    """After it: a layer that never saw the prefix would be a silent, wrong answer."""
    missed = set(range(base.prefix_encoder.shape.layers)) - kwargs[ARGUMENT].taken
    if missed:
        raise InputError(
            f"a prefix on {type(base).__name__}",
            f"{len(missed)} layers did not attend to it",
            got=f"layers {sorted(missed)}",
            do="Keep the attention that attach_prefix set, or use LoRA on this model.",
        )


def _positions(base: Any, kwargs: dict[str, Any], tokens: int) -> torch.Tensor | None:
    """Positions that start at a row's first real token, where the model would count padding too.

    A rotary model without a prefix does not mind. Prefix keys are not rotated, so with one the
    answer depends on the positions themselves. ``generate`` gives the same ones.
    """
    mask_BS: Any = kwargs.get("attention_mask")
    if (
        not isinstance(mask_BS, torch.Tensor)  # generate may have made masks of it already
        or mask_BS.dim() != 2
        or kwargs.get("position_ids") is not None
        or base.config.model_type in OWN_POSITIONS
        or "position_ids" not in inspect.signature(base.forward).parameters
    ):
        return None
    return (mask_BS.long().cumsum(-1) - 1).clamp(min=0)[:, -tokens:]
