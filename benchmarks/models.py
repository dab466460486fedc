"""Training steps and generation on the CPU, against the same model written down naively.

    OMP_NUM_THREADS=1 python -m benchmarks.models            about 20 minutes, one thread
    python -m benchmarks.models --threads 4 --runs 5         needs a machine with nothing else on it
    python -m benchmarks.models --batches 4x512 --dtype bfloat16

Both sides share one set of weights and one optimizer (the fused AdamW that Trainer takes), and run
in turn, naive, ours, naive, ours, …, so that a machine whose speed drifts drifts for both. A ratio
is the median over the pairs. Before anything is timed, both sides must give the same logits.

The two shapes are ChatGLM-6B's and GLM-4's at about 54 million parameters, in which the output head
has the same share of the work as in the real models (some 8 %): a larger vocabulary would flatter
us, because we make logits only where the loss looks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import naive
from benchmarks.attention import attention_calls
from glmops.train.batches import IGNORED, Batch, collate_for
from glmops.train.loss import num_learnt, summed_loss
from glmops.train.rows import Row

KINDS = ("chatglm", "glm")
SIZES = {
    "mid": {
        "chatglm": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 16},
        "glm": {"hidden_size": 512, "intermediate_size": 1712, "num_hidden_layers": 14},
        "heads": 8,
        "vocab_size": 8192,
    },
    "tiny": {
        "chatglm": {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2},
        "glm": {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2},
        "heads": 4,
        "vocab_size": 128,
    },
}
GOALS = {"train": 1.3, "generate": 5.0}


@dataclass(frozen=True)
class Comparison:
    """Seconds of each run of the two sides, which took turns."""

    model: str
    what: str
    naive: list[float]
    ours: list[float]
    note: str = ""
    ratio: float = field(init=False)

    def __post_init__(self) -> None:
        pairs = zip(self.naive, self.ours, strict=True)
        object.__setattr__(self, "ratio", statistics.median(a / b for a, b in pairs))


def build(kind: str, size: str, dtype: torch.dtype) -> Any:
    """A model of the shape with random weights, for training."""
    sizes: dict[str, Any] = SIZES[size]
    shared = {
        "vocab_size": sizes["vocab_size"],
        "num_attention_heads": sizes["heads"],
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }
    torch.manual_seed(1)
    if kind == "chatglm":
        from glmops.models.chatglm.configuration import ChatGLMConfig
        from glmops.models.chatglm.modeling import ChatGLMForCausalLM

        special = {"bos_token_id": 2, "mask_token_id": 3, "gmask_token_id": 4}
        return ChatGLMForCausalLM(ChatGLMConfig(**shared, **special, **sizes[kind])).to(dtype)
    from transformers import GlmConfig, GlmForCausalLM

    width = sizes[kind]["hidden_size"] // sizes["heads"]
    config = GlmConfig(
        **shared, **sizes[kind], num_key_value_heads=2, head_dim=width, tie_word_embeddings=False
    )
    return GlmForCausalLM(config).to(dtype)


def row(kind: str, config: Any, length: int, answer: int, seed: int = 0) -> dict[str, Any]:
    """Random tokens, of which the last ``answer`` are learnt, with the model's control tokens."""
    generator = torch.Generator().manual_seed(1000 * length + seed)
    ids = torch.randint(10, config.vocab_size, (length,), generator=generator).tolist()
    if kind == "chatglm":
        start = length - answer
        ids[start - 2 : start] = [config.gmask_token_id, config.bos_token_id]
    return {"input_ids": ids, "labels": [IGNORED] * (length - answer) + ids[length - answer :]}


def collated(kind: str, rows: list[dict[str, Any]]) -> Batch:
    """The batch that ``glmops.train`` makes of such rows."""
    some = [
        Row(
            "row",
            np.array(each["input_ids"], np.int32),
            np.array(each["labels"]) != IGNORED,
            (len(each["input_ids"]),),
        )
        for each in rows
    ]
    return collate_for(kind, pad=0, packed=False)(some)


def loss(model: Any, batch: Batch) -> Tensor:
    """Mean nats per learnt token, as ``glmops.train`` has it."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs, use_cache=False).logits
    return summed_loss(logits, batch["labels"]) / num_learnt([batch])


def alternate(
    slow: Callable[[], Any], fast: Callable[[], Any], runs: int
) -> tuple[list[float], list[float]]:
    """Seconds of ``runs`` pairs, slow, fast, slow, fast, …"""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for side, work in zip(times, (slow, fast), strict=True):
            start = time.perf_counter()
            work()
            side.append(time.perf_counter() - start)
    return times


def training(kind: str, model: Any, batch: str, runs: int) -> Comparison:
    """Forward, backward and optimizer step of a batch, an eighth of whose rows is the answer.

    Our side is what ``glmops.train`` does: its collator, whose batch names the places where logits
    are needed, and its loss.
    """
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    num_rows, length = (int(number) for number in batch.split("x"))
    rows = [row(kind, model.config, length, length // 8, seed) for seed in range(num_rows)]
    batch_of_ours = collated(kind, rows)
    ids_BT = batch_of_ours["input_ids"]
    labels_BT = torch.tensor([each["labels"] for each in rows])

    def step(value: Tensor) -> None:
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    def slow() -> None:
        step(naive.loss(kind, model, ids_BT, labels_BT))

    def fast() -> None:
        step(loss(model, batch_of_ours))

    alternate(slow, fast, 1)
    return Comparison(kind, f"train {batch}", *alternate(slow, fast, runs))


def generation(kind: str, model: Any, prompt: int, new: int, runs: int) -> Comparison:
    """``new`` greedy tokens after one prompt; ours through ``generate`` and its cache."""
    model.eval()
    model.generation_config.eos_token_id = None  # every run writes all of them
    ids_BT = torch.tensor([row(kind, model.config, prompt, prompt // 8)["input_ids"]])
    written: dict[str, Tensor] = {}

    def slow(num_tokens: int = new) -> None:
        written["naive"] = naive.generate(kind, model, ids_BT, num_tokens)

    def fast(num_tokens: int = new) -> None:
        written["ours"] = generate(model, ids_BT, num_tokens)

    slow(2)
    fast(2)
    times = alternate(slow, fast, runs)
    equal = int((written["naive"] == written["ours"]).sum()) - prompt
    return Comparison(kind, f"generate {new}", *times, f"{equal} of {new} tokens equal")


def generate(model: Any, ids_BT: Tensor, new: int) -> Tensor:
    from transformers import GenerationConfig

    greedy = GenerationConfig(max_new_tokens=new, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        return model.generate(
            ids_BT, attention_mask=torch.ones_like(ids_BT), generation_config=greedy
        )


def attention(kind: str, model: Any, length: int) -> dict[str, Any]:
    """Which attention is really used, for a training row and for one and for several new tokens."""
    from torch.profiler import ProfilerActivity, profile

    batch = collated(kind, [row(kind, model.config, length, length // 8)])
    model.train()
    with attention_calls() as trained, profile(activities=[ProfilerActivity.CPU]) as trace:
        loss(model, batch)
    model.eval()
    with attention_calls() as written:
        generate(model, batch["input_ids"], 3)
    kernels = {each.key for each in trace.key_averages() if "_scaled_dot_product" in each.key}
    return {
        "layers": model.config.num_hidden_layers,
        "train": dict(trained),
        "generate 3": dict(written),
        "kernels": sorted(kernels),
    }


def distance(kind: str, model: Any, length: int) -> float:
    """Largest difference of any logit between the two sides."""
    ids_BT = torch.tensor([row(kind, model.config, length, length // 8)["input_ids"]])
    with torch.no_grad():
        ours_BTV = model(input_ids=ids_BT, use_cache=False).logits
        return float((naive.LOGITS[kind](model, ids_BT) - ours_BTV).abs().max())


def lines(results: Sequence[Comparison]) -> Iterator[str]:
    yield f"{'model':8} {'what':14} {'naive s':>9} {'ours s':>9} {'ratio':>7}  goal"
    for each in results:
        goal = GOALS[each.what.split()[0]]
        verdict = f"{goal}: {'reached' if each.ratio >= goal else 'missed'}"
        times = (statistics.median(side) for side in (each.naive, each.ours))
        numbers = " ".join(f"{seconds:9.3f}" for seconds in times)
        yield f"{each.model:8} {each.what:14} {numbers} {each.ratio:6.2f}×  {verdict}  {each.note}"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    made.add_argument("--size", choices=SIZES, default="mid")
    made.add_argument("--models", nargs="+", choices=KINDS, default=list(KINDS))
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    made.add_argument(
        "--batches",
        nargs="*",
        default=["1x512", "4x512", "2x1024", "1x2048"],
        metavar="ROWSxLENGTH",
    )
    made.add_argument("--new-tokens", type=int, default=256, help="0: no generation")
    made.add_argument("--runs", type=int, default=3, help="pairs that are counted")
    return made


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    asked = parser().parse_args(arguments)
    torch.set_num_threads(asked.threads)
    results: list[Comparison] = []
    probes = {}
    for kind in asked.models:
        model = build(kind, asked.size, getattr(torch, asked.dtype))
        apart = distance(kind, model, 64)
        if apart > (1e-3 if asked.dtype == "float32" else 0.2):
            raise SystemExit(f"{kind}: the two sides are {apart:.1e} apart, so nothing was timed")
        probes[kind] = attention(kind, model, 64) | {"distance": apart}
        say(f"{kind}: {model.num_parameters() / 1e6:.1f} M parameters, {json.dumps(probes[kind])}")
        results.extend(training(kind, model, batch, asked.runs) for batch in asked.batches)
        if asked.new_tokens:
            results.append(generation(kind, model, 64, asked.new_tokens, asked.runs))
        del model
    for line in lines(results):
        say(line)
    report = {**vars(asked), "attention": probes, "results": [asdict(each) for each in results]}
    say(json.dumps(report))
    return report


if __name__ == "__main__":
    main()
