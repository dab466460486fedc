"""One step of a skeleton, and one measurement of dev rows: what each adds to what is held anyway.

Axes: B rows, T tokens, K places of a row whose logits are made, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from glmops.models.prefix.encoder import PrefixEncoder
from glmops.recipe import Train
from glmops.train.loss import token_losses
from glmops.train.plan.lengths import Forward
from glmops.train.plan.live import Ledger, Parts


def _as_on_gpu(model: Any) -> None:
    """What a GPU does otherwise: dropout inside its attention kernel, and under autocast layer
    norms in float32. Told to the modules, as checkpointing calls them again outside any mode."""
    for module in model.modules():
        if isinstance(getattr(module, "attn_dropout", None), torch.nn.Dropout):
            module.attn_dropout.p = 0.0
        if isinstance(module, torch.nn.LayerNorm):
            module.forward = _in_full(module)  # type: ignore[assignment,method-assign]


def _in_full(module: torch.nn.LayerNorm) -> Callable[[torch.Tensor], torch.Tensor]:
    plain = torch.nn.LayerNorm.forward

    def forward(states: torch.Tensor) -> torch.Tensor:
        if not torch.is_autocast_enabled("cpu"):
            return plain(module, states)
        weight, bias = module.weight.float(), module.bias.float()
        shape = module.normalized_shape
        return functional.layer_norm(states.float(), shape, weight, bias, module.eps)

    return forward


def step(model: Any, forward: Forward, settings: Train, device: str) -> tuple[Parts, Parts]:
    """The most that is alive, while logits are and after that: see ``Ledger.peaks``.

    Args:
        model: On the meta device.
    """
    with FakeTensorMode(), ExitStack() as stack:
        _give_shapes(model)
        trained = [each for each in model.parameters() if each.requires_grad]
        held = settings.schedule.accumulation > 1
        if held:
            for each in trained:
                each.grad = torch.empty_like(each)
        ledger = Ledger(model.config.vocab_size)
        ledger.own([*model.parameters(), *model.buffers()])
        if device == "cuda":
            _as_on_gpu(model)
        stack.enter_context(ledger)
        if held:
            ledger.begin_with([each.grad for each in trained if each.grad is not None])
        _loss(model, forward, settings).backward()  # type: ignore[no-untyped-call]
        return ledger.peaks([each.grad for each in trained if each.grad is not None])


def measurement(model: Any, forward: Forward, settings: Train, device: str) -> Parts:
    """The same while dev rows are measured."""
    with FakeTensorMode(), ExitStack() as stack:
        _give_shapes(model)
        ledger = Ledger(model.config.vocab_size)
        ledger.own([*model.parameters(), *model.buffers()])
        if device == "cuda":
            _as_on_gpu(model)
        stack.enter_context(ledger)
        stack.enter_context(torch.no_grad())
        _without_dropout(model)
        _loss(model, forward, settings)
        return max(ledger.peaks([]), key=lambda parts: sum(parts.values()))


def _without_dropout(model: Any) -> None:
    """As ``eval`` does; but a prefix would look whether its values are those of the last time."""
    model.eval()
    for module in model.modules():
        if isinstance(module, PrefixEncoder):
            module.train()


def _loss(model: Any, forward: Forward, settings: Train) -> torch.Tensor:
    size = forward.rows, forward.tokens
    ids_BT = torch.zeros(size, dtype=torch.long)
    places_BK = torch.zeros(forward.rows, forward.places, dtype=torch.long)
    inputs: dict[str, Any] = {"input_ids": ids_BT, "logits_to_keep": places_BK}
    chatglm = model.config.model_type == "chatglm-6b"
    if chatglm or forward.packed:
        # What the model would make of segment numbers, without looking at values.
        mask = torch.ones(forward.rows, 1, forward.tokens, forward.tokens, dtype=torch.bool)
        inputs["attention_mask"] = mask
        axes = (2,) if chatglm and model.config.position_encoding_2d else ()
        inputs["position_ids"] = torch.zeros(
            (forward.rows, *axes, forward.tokens), dtype=torch.long
        )
    mixed = settings.precision != "float32" and settings.launch.engine != "deepspeed"
    half = getattr(torch, settings.precision)
    with torch.autocast("cpu", half) if mixed else nullcontext():
        logits_BKV = model(**inputs, use_cache=False).logits
    return token_losses(logits_BKV.float(), places_BK).sum()


def _give_shapes(model: Any) -> None:
    """In place of each tensor on the meta device, one that says it is on the CPU."""
    made: dict[int, Any] = {}

    def shaped(tensor: Any) -> Any:
        if id(tensor) not in made:
            empty: Any = torch.empty(tensor.shape, dtype=tensor.dtype)
            if isinstance(tensor, torch.nn.Parameter):
                empty = torch.nn.Parameter(empty, requires_grad=tensor.requires_grad)
            made[id(tensor)] = tensor, empty
        return made[id(tensor)][1]

    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = shaped(tensor)
