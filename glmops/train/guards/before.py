"""Before the weights first move: something is trained, the optimiser has it, gradients reach it.

The first step's own forward and backward is the trial, under the very settings of the run, so it
costs nothing; it is judged before the optimiser uses it.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from glmops.errors import GlmopsError, RecipeError

SHOWN = 3


class Ready(TrainerCallback):
    """Refuses to train a model that cannot learn.

    Args:
        whole: Whether every process has whole gradients and optimiser groups: DeepSpeed splits
            and flattens both, so there only the norm of the gradients tells.
    """

    def __init__(self, phase: str, *, whole: bool = True) -> None:
        self._where, self._whole, self._passed = f"train {phase} step 1", whole, False

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any, optimizer: Any, **_: Any
    ) -> None:
        """Raises GlmopsError."""
        trained = _trained(model)
        if not trained:
            raise RecipeError(
                self._where,
                "no parameter of the model is trained",
                do="Choose another train.method, or targets that the model has.",
            )
        if self._whole and optimizer is not None:
            known = {id(each) for group in optimizer.param_groups for each in group["params"]}
            unknown = [name for name, each in trained.items() if id(each) not in known]
            if unknown:
                do = "This is a fault of glmops; please report it with the recipe."
                what = f"the optimiser does not know {_named(unknown)}"
                raise GlmopsError(self._where, what, do=do)

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any, **_: Any
    ) -> None:
        """Raises GlmopsError. Seen once: a GPU is waited for, and later steps may be silent."""
        if self._passed or not self._whole:
            return
        self._passed = True
        trained = _trained(model)
        # The first matrix of a LoRA pair has no gradient as long as the second is 0, as it is at
        # the beginning. The second always has one.
        watched = {name: each for name, each in trained.items() if ".lora_B." in name} or trained
        silent = [name for name, each in watched.items() if not _reached(each)]
        adapters = watched is not trained
        if len(silent) == len(watched) or (adapters and silent):
            raise GlmopsError(
                self._where,
                f"no gradient reaches {len(silent)} of {len(watched)} trained weights, which would "
                f"never learn anything ({_named(silent)})",
                do="Switch train.gradient_checkpointing, train.compile and train.quantization "
                "off one by one to find what cuts it off.",
            )


def _trained(model: Any) -> dict[str, Any]:
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def _reached(parameter: Any) -> bool:
    """A gradient of no number is another guard's business."""
    return parameter.grad is not None and bool((parameter.grad != 0).any())


def _named(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
