"""Answers by vLLM, where it is installed: merged checkpoints of architectures that it knows.

It is given token ids and gives token ids, so that prompts, stop tokens and texts are those of the
checkpoint's own contract and tokenizer. Its kernels add in another order than torch's: an answer
whose two likeliest tokens are all but equal can differ.

Written for vLLM's documented offline interface (`LLM.generate` of token ids, `SamplingParams`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError, MachineError
from glmops.models.tokenizers import load_tokenizer
from glmops.models.trained import ADAPTER
from glmops.storage import read_json

if TYPE_CHECKING:
    from glmops.models.generation import Generated

Ids = Sequence[int]

FAMILIES = ("glm", "glm4", "gpt2", "llama", "mistral", "qwen2", "qwen3")
"""Model types that vLLM runs and glmops loads."""
GO_ON = "Set evaluate.engine to transformers."


def open_vllm(folder: Path) -> tuple[Vllm, Any]:
    """The engine on a checkpoint, and the tokenizer of its rows.

    Raises:
        InputError: The checkpoint is an adapter or prefix beside its base, or of an architecture
            that vLLM does not run.
        MachineError: vLLM is not installed.
    """
    if importlib.util.find_spec("vllm") is None:
        raise MachineError(
            "evaluate.engine vllm",
            "vLLM is not installed here",
            do=f"Install it on a machine with a GPU (pip install vllm). Or: {GO_ON}",
        )
    if (folder / ADAPTER).is_dir():
        raise InputError(
            folder,
            "vLLM takes merged checkpoints, and this is an adapter beside its base",
            do=f"Set train.export to merged. Or: {GO_ON}",
        )
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise InputError(
            f"{folder}/config.json",
            f"vLLM runs none but {', '.join(FAMILIES)}",
            got=kind,
            do=GO_ON,
        )
    from vllm import LLM

    # Its own defaults for sampling, not those of a generation_config.json, which may hold other
    # end tokens than the contract does.
    loaded = LLM(model=str(folder), skip_tokenizer_init=True, generation_config="vllm", seed=0)
    tokenizer = load_tokenizer(folder)
    return Vllm(loaded, tokenizer, config.get("n_positions")), tokenizer


@dataclass(frozen=True, slots=True)
class Vllm:
    """It batches rows by itself, as memory allows: the more it has at hand the better."""

    loaded: Any
    tokenizer: Any
    positions: int | None = None
    rows_at_once: int = 32

    def require_room(self, prompts: Sequence[Ids], new_tokens: int) -> None:
        from glmops.models.generation import require_positions

        require_positions(prompts, new_tokens, self.positions)

    def write(
        self, prompts: Sequence[Ids], stop_ids: Sequence[int], new_tokens: int
    ) -> list[Generated]:
        from vllm import SamplingParams

        from glmops.models.generation import until_stop

        greedy = SamplingParams(
            temperature=0.0,
            max_tokens=new_tokens,
            stop_token_ids=list(stop_ids),
            detokenize=False,
        )
        outputs = self.loaded.generate(_tokens(prompts), greedy, use_tqdm=False)
        written = (_with_stop(each.outputs[0], stop_ids) for each in outputs)
        return [until_stop(row, stop_ids, self.tokenizer) for row in written]

    def weigh(self, prompts: Sequence[Ids], continuations: Sequence[Ids]) -> list[list[float]]:
        """Log-probabilities that vLLM gives for tokens of a prompt, summed over a continuation."""
        from vllm import SamplingParams

        # One new token is the least it writes; 0 asks for each prompt token and no other beside.
        asked = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        rows = [[*prompt, *ids] for prompt in prompts for ids in continuations]
        outputs = iter(self.loaded.generate(_tokens(rows), asked, use_tqdm=False))
        return [[_sum_of_last(next(outputs), ids) for ids in continuations] for _ in prompts]


def _tokens(rows: Sequence[Ids]) -> list[dict[str, list[int]]]:
    return [{"prompt_token_ids": list(row)} for row in rows]


def _with_stop(output: Any, stop_ids: Sequence[int]) -> list[int]:
    """The tokens of an answer; versions differ in whether the stop token is one of them."""
    ids = list(output.token_ids)
    if output.finish_reason == "stop" and (not ids or ids[-1] not in stop_ids):
        ids.append(stop_ids[0])
    return ids


def _sum_of_last(output: Any, ids: Ids) -> float:
    """``prompt_logprobs`` has an entry per token of the prompt: token id → Logprob."""
    last = output.prompt_logprobs[-len(ids) :]
    return float(sum(entry[token].logprob for entry, token in zip(last, ids, strict=True)))
