"""What is alive in memory, at every moment, while code runs on tensors that hold no values.

torch's FakeTensorMode runs any model's real forward and backward in shapes alone: it decides as a
CPU would which kernel runs, and autograd keeps what it would keep. Counting the storages that come
and go gives the peak without a byte of it. What kernels take and give back inside is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GRADIENTS, LOGITS, ACTIVATIONS = "gradients", "logits", "activations"
Parts = dict[str, int]
"""Bytes under these three names."""


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down each storage when it appears and when it goes.

    Args:
        vocabulary: The last axis of a tensor of logits.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._vocabulary = vocabulary
        self._known: dict[int, Any] = {}
        self._events: list[tuple[int, int, str]] = []
        self._count = 0
        self._numbers: dict[int, int] = {}

    def own(self, tensors: Iterable[torch.Tensor]) -> None:
        """These were there before and are not counted."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._known[storage._cdata] = storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, torch.Tensor):
                self._see(each)
        return made

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size, number = storage.nbytes(), self._count
        self._count += 1
        wide = tensor.ndim > 1 and tensor.shape[-1] == self._vocabulary
        self._numbers[key] = number
        self._events.append((number, size, LOGITS if wide else ACTIVATIONS))
        gone = weakref.ref(storage, lambda _: self._forget(key, number, size))
        self._known[key] = gone

    def _forget(self, key: int, number: int, size: int) -> None:
        self._known.pop(key, None)
        self._events.append((number, -size, ""))

    def begin_with(self, tensors: Iterable[torch.Tensor]) -> None:
        """These are there already, and are counted."""
        for each in tensors:
            self._see(each)

    def peaks(self, gradients: Iterable[torch.Tensor]) -> tuple[Parts, Parts]:
        """Bytes by part when most was alive, up to the end of the last logits and after it.

        The two grow with the number of layers in two ways, each in a straight line.

        Args:
            gradients: What is a gradient of a weight, as told at the end.
        """
        kinds = {
            self._numbers[key]: GRADIENTS
            for each in gradients
            if (key := each.untyped_storage()._cdata) in self._numbers
        }
        of = {number: kinds.get(number, kind) for number, _, kind in self._events if kind}
        last = max(
            (index for index, event in enumerate(self._events) if of[event[0]] == LOGITS),
            default=len(self._events),
        )
        alive = {GRADIENTS: 0, LOGITS: 0, ACTIVATIONS: 0}
        best = [dict(alive), dict(alive)]
        for index, (number, size, _) in enumerate(self._events):
            alive[of[number]] += size
            window = int(index > last)
            if sum(alive.values()) > sum(best[window].values()):
                best[window] = dict(alive)
        return best[0], best[1]
