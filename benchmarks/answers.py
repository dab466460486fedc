"""Answers and label likelihoods of `evaluate`, against one row at a time.

    OMP_NUM_THREADS=1 python -m benchmarks.answers           about 6 minutes, one thread
    python -m benchmarks.answers --threads 4                 needs a machine with nothing else on it
    python -m benchmarks.answers --device cuda --size large  on a GPU

The other side is what a tutorial writes: `model.generate` for one row after another, with a cache;
to classify, it writes the label. It answers a sample of the rows (``--sample``), evenly spread over
their lengths; rates are rows per second. Both sides run in turn, and a ratio is the median of the
rounds'. The answers of both must be equal, and the likelihoods those of one forward pass per row
and label (of a few rows), or nothing counts.

The model is a GLM with random weights, which never ends an answer by itself: every row writes all
its tokens on both sides. Rows are the sample headlines, in the template of their format, and their
15 classes; to write a class, the other side writes as many tokens as classes have on average, its
end included. How many that is depends on the vocabulary, so it is timed for several.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from glmops.evaluate.engines import Torch
from glmops.models.generation import plan_batches

SIZES = {
    "tiny": {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2},
    "small": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4},
    "mid": {"hidden_size": 512, "intermediate_size": 1712, "num_hidden_layers": 14},
    "large": {"hidden_size": 2048, "intermediate_size": 6848, "num_hidden_layers": 24},
}
VOCABULARY, PAD, STOP = 8000, 0, 1
CLASS_TOKENS = 200
GOALS = {"write": 12.0, "classify": 9.0}
SAMPLE = Path(__file__).parents[1] / "data" / "samples" / "toutiao"


@dataclass(frozen=True)
class Comparison:
    """Rows per second of each round, the two sides in turn."""

    what: str
    tokens: int
    """That the other side writes for a row."""
    one_by_one: list[float]
    ours: list[float]
    equal: str

    @property
    def ratio(self) -> float:
        pairs = zip(self.one_by_one, self.ours, strict=True)
        return statistics.median(ours / one for one, ours in pairs)


def build(size: str, device: str, dtype: torch.dtype) -> Any:
    from transformers import GlmConfig, GlmForCausalLM

    torch.manual_seed(1)
    width = SIZES[size]["hidden_size"]
    heads = max(2, width // 64)
    config = GlmConfig(
        **SIZES[size],
        vocab_size=VOCABULARY + 192,
        num_attention_heads=heads,
        num_key_value_heads=2,
        head_dim=width // heads,
        pad_token_id=PAD,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    model = GlmForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(3)  # flat logits have near ties, which rounding would decide
        # The rows of the stop and padding tokens: what is 0 is never the likeliest.
        model.get_output_embeddings().weight[[PAD, STOP]] = 0
    return model.to(device, dtype)


def headlines(rows: int, characters: int) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of the sample headlines, over again until they are enough, and their classes.

    Args:
        characters: Of a class's name that are one token: a vocabulary that was made from the rows
            holds a name whole, one that was made elsewhere cuts it.
    """
    from glmops.models.tokenizers import text_ids, train_tokenizer
    from glmops.prepare import read

    records, _ = read(SAMPLE, "toutiao")
    tokenizer = train_tokenizer([each.prompt for each in records], VOCABULARY - CLASS_TOKENS)
    # The first ids stand for padding and the end, as in the model; the last for pieces of names.
    some = [records[index % len(records)] for index in range(rows)]
    prompts = [[10 + i for i in text_ids(each.prompt, tokenizer)] for each in some]
    pieces: dict[str, int] = {}
    classes = []
    for name in sorted({each.target for each in records}):
        cut = [name[at : at + characters] for at in range(0, len(name), characters)]
        ids = [VOCABULARY - 1 - pieces.setdefault(piece, len(pieces)) for piece in cut]
        classes.append([*ids, STOP])
    return prompts, classes


class Tokenizer(SimpleNamespace):
    """As much of one as an engine needs: ids stand for themselves."""

    pad_token_id = PAD

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return " ".join(map(str, ids))


def write_batched(engine: Torch, prompts: Sequence[list[int]], new: int, size: int) -> list[str]:
    answers: dict[int, str] = {}
    for batch in plan_batches([len(prompt) for prompt in prompts], new, size):
        written = engine.write([prompts[index] for index in batch], [STOP], new)
        answers.update(zip(batch, (each.text for each in written), strict=True))
    return [answers[index] for index in range(len(prompts))]


def write_one_by_one(engine: Torch, prompts: Sequence[list[int]], new: int) -> list[str]:
    from transformers import GenerationConfig

    greedy = GenerationConfig(
        do_sample=False, max_new_tokens=new, eos_token_id=STOP, pad_token_id=PAD
    )
    answers = []
    for prompt in prompts:
        ids_1T = torch.tensor([prompt], device=engine.model.device)
        with torch.inference_mode():
            written = engine.model.generate(
                input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T), generation_config=greedy
            )
        answers.append(engine.tokenizer.decode(written[0, len(prompt) :].tolist()))
    return answers


def classify(
    engine: Torch, prompts: Sequence[list[int]], asked: Sequence[list[int]], size: int
) -> list[list[float]]:
    weights: dict[int, list[float]] = {}
    longest = max(map(len, asked))
    for batch in plan_batches([len(prompt) for prompt in prompts], longest, size):
        made = engine.weigh([prompts[index] for index in batch], asked)
        weights.update(zip(batch, made, strict=True))
    return [weights[index] for index in range(len(prompts))]


def classify_naively(
    engine: Torch, prompts: Sequence[list[int]], asked: Sequence[list[int]]
) -> list[list[float]]:
    """One forward pass per row and label."""
    rows = []
    for prompt in prompts:
        weights = []
        for ids in asked:
            row = torch.tensor([prompt + ids], device=engine.model.device)
            with torch.inference_mode():
                logits = engine.model(row, use_cache=False).logits[0].float().log_softmax(-1)
            places = range(len(prompt) - 1, len(prompt) + len(ids) - 1)
            weights.append(
                sum(float(logits[at, token]) for at, token in zip(places, ids, strict=True))
            )
        rows.append(weights)
    return rows


def rate(rows: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Rows per second, and what the work gave."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    made = work()
    return rows / (time.perf_counter() - start), made


def writing(engine: Torch, asked: argparse.Namespace) -> Comparison:
    prompts, _ = headlines(asked.rows, 1)
    every = max(1, asked.rows // asked.sample)
    some, new = prompts[::every], asked.new_tokens
    write_batched(engine, prompts[: asked.batch_size], 2, asked.batch_size)
    slow, fast, same = [], [], 0
    for _ in range(asked.rounds):
        one, alone = rate(len(some), lambda: write_one_by_one(engine, some, new))
        many, together = rate(
            len(prompts), lambda: write_batched(engine, prompts, new, asked.batch_size)
        )
        slow.append(one)
        fast.append(many)
        same = sum(a == b for a, b in zip(alone, together[::every], strict=True))
    return Comparison("write", new, slow, fast, f"{same} of {len(some)} answers equal")


def classifying(engine: Torch, asked: argparse.Namespace, characters: int) -> Comparison:
    prompts, classes = headlines(asked.rows, characters)
    some = prompts[:: max(1, asked.rows // asked.sample)]
    new = round(statistics.mean(map(len, classes)))
    classify(engine, prompts[: asked.batch_size], classes, asked.batch_size)
    slow, fast, found = [], [], []
    for _ in range(asked.rounds):
        slow.append(rate(len(some), lambda: write_one_by_one(engine, some, new))[0])
        many, found = rate(
            len(prompts), lambda: classify(engine, prompts, classes, asked.batch_size)
        )
        fast.append(many)
    naive = torch.tensor(classify_naively(engine, prompts[:4], classes), dtype=torch.float64)
    apart = float((torch.tensor(found[:4], dtype=torch.float64) - naive).abs().max())
    return Comparison(
        "classify", new, slow, fast, f"{apart:.1e} nats from one pass per row and label"
    )


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    made.add_argument("--size", choices=SIZES, default="small")
    made.add_argument("--device", default="cpu")
    made.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--rows", type=int, default=2000)
    made.add_argument("--sample", type=int, default=100, help="rows that are written one by one")
    made.add_argument("--new-tokens", type=int, default=32)
    made.add_argument(
        "--characters", type=int, nargs="+", default=[20, 4, 2, 1], help="of a class name's token"
    )
    made.add_argument("--batch-size", type=int, default=128)
    made.add_argument("--rounds", type=int, default=3)
    return made


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    asked = parser().parse_args(arguments)
    torch.set_num_threads(asked.threads)
    model = build(asked.size, asked.device, getattr(torch, asked.dtype))
    engine = Torch(model, Tokenizer())
    say(f"{model.num_parameters() / 1e6:.1f} M parameters, {asked.rows} rows")
    results = [writing(engine, asked)]
    results += [classifying(engine, asked, each) for each in asked.characters]
    for each in results:
        goal = GOALS[each.what]
        one, ours = (statistics.median(side) for side in (each.one_by_one, each.ours))
        verdict = "reached" if each.ratio >= goal else "missed"
        say(
            f"{each.what:9} {each.tokens:2} tokens: "
            f"one by one {one:7.1f} rows/s, ours {ours:8.1f} rows/s, "
            f"{each.ratio:6.1f}× (goal {goal:.0f}×: {verdict}); {each.equal}"
        )
    report = {**vars(asked), "results": [asdict(each) | {"ratio": each.ratio} for each in results]}
    say(json.dumps(report))
    return report


if __name__ == "__main__":
    main()
