"""The vLLM engine. vLLM itself is not among the test libraries: a module of its name stands in,
with the documented interface and our own small model behind it."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from glmops.errors import InputError, MachineError, RecipeError
from glmops.evaluate.answers import answer
from glmops.evaluate.engines import open_checkpoint
from glmops.evaluate.likelihood import label_likelihoods
from glmops.models import load
from glmops.records import Record


class SamplingParams:
    def __init__(
        self,
        *,
        temperature: float = 1.0,
        max_tokens: int = 16,
        stop_token_ids: list[int] | None = None,
        prompt_logprobs: int | None = None,
        detokenize: bool = True,
    ) -> None:
        assert temperature == 0.0
        assert not detokenize  # what an engine without a tokenizer demands
        self.max_tokens, self.stops = max_tokens, stop_token_ids or []
        self.prompt_logprobs = prompt_logprobs


class LLM:
    def __init__(
        self, model: str, *, skip_tokenizer_init: bool, generation_config: str, seed: int
    ) -> None:
        assert (skip_tokenizer_init, generation_config) == (True, "vllm")
        self.model, _ = load(Path(model))

    def generate(self, prompts: list[Any], params: SamplingParams, *, use_tqdm: bool) -> list[Any]:
        return [self._one(each["prompt_token_ids"], params) for each in prompts]

    def _one(self, ids: list[int], params: SamplingParams) -> Any:
        logprobs: list[Any] = [None]
        with torch.no_grad():
            said = self.model(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
            for place, token in enumerate(ids[1:]):
                logprobs.append({token: SimpleNamespace(logprob=float(said[place, token]))})
            row, reason = list(ids), "length"
            while len(row) < len(ids) + params.max_tokens and reason == "length":
                row.append(int(self.model(torch.tensor([row])).logits[0, -1].argmax()))
                reason = "stop" if row[-1] in params.stops else "length"
        output = SimpleNamespace(token_ids=row[len(ids) :], finish_reason=reason)
        asked = logprobs if params.prompt_logprobs is not None else None
        return SimpleNamespace(outputs=[output], prompt_logprobs=asked)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vllm")
    module.__spec__ = ModuleSpec("vllm", None)
    module.LLM, module.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", module)


@pytest.mark.usefixtures("vllm")
def test_it_answers_and_weighs_as_the_other_engine_does(
    checkpoint: Path, rows: list[Record], train: list[Record]
) -> None:
    options = {"batch_size": 3, "max_new_tokens": 24}
    by_torch, by_vllm = (
        answer(checkpoint, rows, engine=name, **options) for name in ("transformers", "vllm")
    )
    assert by_vllm == by_torch
    assert {each.finished for each in by_vllm} == {True, False}
    ours, theirs = (
        label_likelihoods(open_checkpoint(checkpoint, engine=name), rows, train, batch_size=2)
        for name in ("transformers", "vllm")
    )
    assert [(e.id, e.label) for e in ours] == [(e.id, e.label) for e in theirs]
    assert [e.log_probability for e in theirs] == pytest.approx(
        [e.log_probability for e in ours], rel=2e-6
    )


@pytest.mark.usefixtures("vllm")
def test_what_it_does_not_run_is_refused_by_name(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "chatglm-6b"}))
    with pytest.raises(InputError, match=r"config\.json: vLLM runs none but .*got 'chatglm-6b'"):
        open_checkpoint(folder, engine="vllm")
    (folder / "adapter").mkdir()
    with pytest.raises(InputError, match=r"vLLM takes merged.*Set train\.export"):
        open_checkpoint(folder, engine="vllm")


def test_where_it_is_not_installed_the_message_says_so(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A None in sys.modules is how Python itself marks a module that is not to be found.
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MachineError, match=r"vLLM is not installed here.*engine to transformers"):
        open_checkpoint(checkpoint, engine="vllm")


def test_an_unknown_engine_names_the_known_ones(checkpoint: Path) -> None:
    with pytest.raises(RecipeError, match=r"got 'onnx'. Known: transformers, vllm\."):
        open_checkpoint(checkpoint, engine="onnx")
