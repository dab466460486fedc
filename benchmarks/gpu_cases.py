"""What ``benchmarks.gpu`` measures: the cases, and one case from random weights to its numbers."""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.random_weights import random_model

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 products a second, by the maker's data sheets (SXM)."""
LORA_TARGETS = {"chatglm": ["query_key_value"], "chatglm2": ["q_proj", "k_proj", "v_proj"]}


@dataclass(frozen=True)
class Case:
    """One thing to measure. ``method``: lora (rank 8), prefix (128 slots) or generate."""

    model: str
    method: str
    batch: int
    length: int
    nf4: bool = False
    checkpointing: bool = False
    accumulate: int = 1

    @property
    def name(self) -> str:
        marks = ["nf4"] * self.nf4 + ["checkpointing"] * self.checkpointing
        sizes = f"{self.batch}×{self.length}" + f"×{self.accumulate}" * (self.accumulate > 1)
        return " ".join([self.model, self.method, sizes, *marks])


@dataclass(frozen=True)
class Outcome:
    """One row of the table; memory is None on a CPU."""

    case: str
    seconds: float
    tokens_per_second: float
    weights_gb: float | None
    tensors_gb: float | None
    used_gb: float | None
    trained_parameters: int
    utilisation: float | None
    """Of the card's peak: what the model's matrices need, whatever is computed twice."""


CASES = (
    # The published minimum comes first: if time runs out, this is the figure that is wanted.
    Case("chatglm", "prefix", 1, 128, nf4=True, accumulate=16),
    Case("chatglm", "prefix", 1, 128, nf4=True, checkpointing=True, accumulate=16),
    Case("chatglm", "prefix", 4, 512),
    Case("chatglm", "prefix", 4, 512, checkpointing=True),
    Case("chatglm", "lora", 4, 512),
    Case("chatglm", "lora", 4, 512, checkpointing=True),
    Case("chatglm2", "lora", 4, 512),
    Case("chatglm2", "lora", 4, 512, checkpointing=True),
    Case("chatglm", "generate", 1, 128),
    Case("chatglm", "generate", 8, 128),
    Case("chatglm2", "generate", 8, 128),
)


class Meter:
    """Time and memory of one device; on a CPU there is only time."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        self.device = device

    def clear(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def tensors(self, *, peak: bool) -> float | None:
        if not self.cuda:
            return None
        read = torch.cuda.max_memory_allocated if peak else torch.cuda.memory_allocated
        return round(read() / 1e9, 2)

    def used(self) -> float | None:
        if not self.cuda:
            return None
        free, total = torch.cuda.mem_get_info()
        return round((total - free) / 1e9, 2)


def batch_of(case: Case, config: Any, device: str) -> dict[str, torch.Tensor]:
    """Random rows, of which the second half is the answer (64 + 64 in the published setting)."""
    generator = torch.Generator().manual_seed(case.length)
    ids = torch.randint(10, config.vocab_size - 10, (case.batch, case.length), generator=generator)
    half = case.length // 2
    if case.model == "chatglm":
        ids[:, half - 2], ids[:, half - 1] = config.gmask_token_id, config.bos_token_id
    labels = ids[:, half - 1 :].clone()
    labels[:, 0] = -100
    # The place before the first learnt token predicts it: logits from there on, as glmops.train.
    batch = {"input_ids": ids.to(device), "labels": labels.to(device)}
    return batch | {"logits_to_keep": labels.shape[1]}


def prepared(case: Case, asked: argparse.Namespace) -> Any:
    """The model of a case with its method on it."""
    dtype = getattr(torch, asked.dtype)
    model = random_model(case.model, asked.size, device=asked.device, dtype=dtype, nf4=case.nf4)
    model.requires_grad_(False)
    if case.method == "prefix":
        from glmops.models.prefix import attach_prefix

        model = attach_prefix(model, length=asked.prefix, projection=False, seed=1)
    elif case.method == "lora":
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(r=8, lora_alpha=32, target_modules=LORA_TARGETS[case.model])
        with warnings.catch_warnings():
            # peft 0.21 still asks transformers 5.23 by the old name of activation checkpointing.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
            model = get_peft_model(model, settings)
    if case.checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model


def train(case: Case, model: Any, asked: argparse.Namespace, meter: Meter) -> list[float]:
    """Seconds of each optimizer step: forward and backward of every micro-batch, then AdamW."""
    model.train()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    batch = batch_of(case, model.config, asked.device)
    seconds = []
    for turn in range(asked.steps + 1):
        start = meter.now()
        for _ in range(case.accumulate):
            (model(**batch, use_cache=False).loss / case.accumulate).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if turn:
            seconds.append(meter.now() - start)
    return seconds


def generate(case: Case, model: Any, asked: argparse.Namespace, meter: Meter) -> list[float]:
    from transformers import GenerationConfig

    model.eval()
    model.generation_config.eos_token_id = None  # every run writes all of them
    ids = batch_of(case, model.config, asked.device)["input_ids"]
    greedy = GenerationConfig(max_new_tokens=asked.new_tokens, do_sample=False, pad_token_id=0)
    seconds = []
    for turn in range(asked.steps + 1):
        start = meter.now()
        with torch.inference_mode():
            mask = torch.ones_like(ids)
            model.generate(ids, attention_mask=mask, generation_config=greedy)
        if turn:
            seconds.append(meter.now() - start)
    return seconds


def flops_per_token(case: Case, model: Any) -> float:
    """Multiplications and additions in the model's matrices; attention's own are left out.

    2 for each weight and direction. Frozen weights need no gradients of their own, so that there
    are two directions in training. The head works at half the places, and at each new token.
    """
    head = model.get_output_embeddings()
    layers = sum(
        each.in_features * each.out_features
        for name, each in model.named_modules()
        if isinstance(each, torch.nn.Linear) and each is not head and "lora_" not in name
    )
    if case.method == "generate":
        return 2.0 * (layers + head.in_features * head.out_features)
    return 4.0 * (layers + head.in_features * head.out_features / 2)


def utilisation(flops: float, asked: argparse.Namespace) -> float | None:
    """Args:
    flops: A second.
    """
    if not asked.device.startswith("cuda"):
        return None
    name = torch.cuda.get_device_name()
    peak = next((peak for card, peak in PEAK_FLOPS.items() if card in name), None)
    return None if peak is None else round(flops / peak, 3)


def measure(case: Case, asked: argparse.Namespace) -> Outcome:
    meter = Meter(asked.device)
    meter.clear()
    model = prepared(case, asked)
    weights = meter.tensors(peak=False)
    work: Callable[..., list[float]] = generate if case.method == "generate" else train
    seconds = statistics.median(work(case, model, asked, meter))
    tokens = case.batch * asked.new_tokens
    if case.method != "generate":
        tokens = case.batch * case.length * case.accumulate
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    return Outcome(
        case=case.name,
        seconds=round(seconds, 4),
        tokens_per_second=round(tokens / seconds, 1),
        weights_gb=weights,
        tensors_gb=meter.tensors(peak=True),
        used_gb=meter.used(),
        trained_parameters=trained,
        utilisation=utilisation(flops_per_token(case, model) * tokens / seconds, asked),
    )
