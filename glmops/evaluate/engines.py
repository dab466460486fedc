"""What answers: a checkpoint that is loaded, by torch and transformers or by vLLM.

An engine writes greedy answers to a batch of prompts, and weighs continuations of prompts. Which
rows share a batch, what is kept on the disk and what a row is called is not its business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from glmops.contract import Contract, load_contract
from glmops.errors import lookup

if TYPE_CHECKING:
    from glmops.models.generation import Generated

Ids = Sequence[int]


class Engine(Protocol):
    """A loaded model, and how it is asked."""

    @property
    def rows_at_once(self) -> int:
        """How many of the recipe's batches it wants in one."""

    def require_room(self, prompts: Sequence[Ids], new_tokens: int) -> None:
        """Raise InputError where so many tokens do not fit behind a prompt."""

    def write(
        self, prompts: Sequence[Ids], stop_ids: Sequence[int], new_tokens: int
    ) -> list[Generated]:
        """The most likely continuation of each prompt, up to a stop token."""

    def weigh(self, prompts: Sequence[Ids], continuations: Sequence[Ids]) -> list[list[float]]:
        """Log-probability in nats of each whole continuation, for each prompt."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained checkpoint that is ready to answer."""

    engine: Engine
    tokenizer: Any
    contract: Contract
    folder: Path
    name: str
    """Of the engine: answers that another one wrote are not gone on from."""


@dataclass(frozen=True, slots=True)
class Torch:
    """Every architecture that `glmops.models` loads, adapters and prefixes included."""

    model: Any
    tokenizer: Any
    rows_at_once: int = 1

    def require_room(self, prompts: Sequence[Ids], new_tokens: int) -> None:
        from glmops.models.generation import require_room

        require_room(self.model, prompts, new_tokens)

    def write(
        self, prompts: Sequence[Ids], stop_ids: Sequence[int], new_tokens: int
    ) -> list[Generated]:
        from glmops.models.generation import write_batch

        return write_batch(self.model, self.tokenizer, prompts, stop_ids, new_tokens)

    def weigh(self, prompts: Sequence[Ids], continuations: Sequence[Ids]) -> list[list[float]]:
        from glmops.evaluate.weighing import weigh

        weights: list[list[float]] = weigh(
            self.model, prompts, continuations, pad=self.tokenizer.pad_token_id
        ).tolist()
        return weights


def _transformers(folder: Path) -> tuple[Engine, Any]:
    from glmops.models.trained import open_trained

    model, tokenizer = open_trained(folder)
    return Torch(model, tokenizer), tokenizer


def _vllm(folder: Path) -> tuple[Engine, Any]:
    from glmops.evaluate.vllm_engine import open_vllm

    return open_vllm(folder)


ENGINES: dict[str, Callable[[Path], tuple[Engine, Any]]] = {
    "transformers": _transformers,
    "vllm": _vllm,
}
"""Name in the recipe → what loads a checkpoint: the engine, and the tokenizer of its rows."""


def open_checkpoint(
    folder: Path, *, engine: str = "transformers", threads: int | None = None
) -> Checkpoint:
    """Load a checkpoint with its own contract.

    Args:
        threads: CPU threads of torch; its own choice when None.
    Raises:
        InputError: The checkpoint or its contract cannot be used, or not by this engine.
        MachineError: The engine is not installed.
        RecipeError: An unknown engine.
    """
    opened = lookup(ENGINES, engine, "evaluate.engine")
    contract = load_contract(folder)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    loaded, tokenizer = opened(folder)
    return Checkpoint(loaded, tokenizer, contract, folder, engine)
