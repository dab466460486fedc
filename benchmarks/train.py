"""Real tokens per second of training: ours, a bare torch loop, and LLaMA-Factory.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.train
    …                                    --size 61 --rows 128
    …                                    --llamafactory /path/to/its/environment/bin/python

Every variant trains the same model on the same rows once: short headlines with their category,
LoRA of rank 8 on every linear layer (or, with ``--method full``, all weights), AdamW, cosine,
float32, one thread. Padding is work, but only the tokens of rows count. Variants take turns, each
in a process of its own. The clock runs from the first step to the end of the last, without dev
rows: the time that passes, and the processor's, which other work disturbs less. Start is the time
until then. The bare loop is a specialist's: logits only where labels are, fused AdamW, no guard.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"]
SIZES = {  # million parameters: hidden, intermediate, layers, heads
    "1": (64, 172, 2, 1),
    "7": (256, 684, 6, 4),
    "61": (768, 2304, 8, 12),
}
BATCH, PACK = 8, 512
VARIANTS = ("bare", "ours", "ours, buckets", "ours, packed")
# Changes to LLaMA-Factory's examples/train_lora/llama3_lora_sft.yaml.
FACTORY: dict[str, dict[str, Any]] = {
    "LLaMA-Factory, example": {},
    "LLaMA-Factory, batch 8": {
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "disable_gradient_checkpointing": True,
    },
    "LLaMA-Factory, neat": {
        "neat_packing": True,
        "packing": True,
        "cutoff_len": PACK,
        "gradient_accumulation_steps": 1,
        "disable_gradient_checkpointing": True,
    },
    "LLaMA-Factory, neat, ckpt": {
        "neat_packing": True,
        "packing": True,
        "cutoff_len": PACK,
        "gradient_accumulation_steps": 1,
    },
}


Moment = tuple[float, float]


def now() -> Moment:
    """Seconds that passed, and those of this process's processor time."""
    return time.perf_counter(), time.process_time()


def make(work: Path, rows: int, size: str) -> None:
    """Rows as the prepare and encode stages write them, packed and not, and a model."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    import torch
    from transformers import GlmConfig, GlmForCausalLM

    from benchmarks.encode import SETTINGS, write_prepared, write_tokenizer
    from glmops.encode.dataset import encode_dataset
    from glmops.encode.vocabulary import tokenizer_hash
    from glmops.models.tokenizers import load_tokenizer
    from glmops.recipe import Encode

    for name, count in (("many", 20_000), ("prepared", rows)):
        (work / name).mkdir(parents=True)
        write_prepared(work / name, count)
    write_tokenizer(work / "many", "han", work / "model")
    source = {"path": str(work / "model"), "sha256": tokenizer_hash(work / "model")}
    for name, packing in (("rows", {}), ("packs", {"packing": "best-fit", "pack_tokens": PACK})):
        settings = Encode.model_validate({**SETTINGS, "tokenizer": source, **packing})
        encode_dataset(work / "prepared", settings, root=ROOT, folder=work / name)
    (work / "factory").mkdir()
    table = pq.read_table(work / "prepared" / "train.parquet")
    prompts = pc.binary_join_element_wise(table["head"], table["body"], table["cue"], "")
    asked = pa.table({"prompt": prompts, "response": table["target"]})
    pq.write_table(asked, work / "factory" / "rows.parquet")
    columns = {"prompt": "prompt", "response": "response"}
    info = {"rows": {"file_name": "rows.parquet", "columns": columns}}
    (work / "factory" / "dataset_info.json").write_text(json.dumps(info))
    hidden, inner, layers, heads = SIZES[size]
    tokenizer = load_tokenizer(work / "model")
    torch.manual_seed(0)
    config = GlmConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        head_dim=64,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype="float32",
    )
    GlmForCausalLM(config).save_pretrained(str(work / "model"))


def settings_for(method: str, schedule: dict[str, Any], *, compiled: bool = False) -> Any:
    from glmops.recipe import Train

    base = {"method": "pretrained", "path": "model", "sha256": "0" * 64}
    lora = {"rank": 8, "alpha": 16, "dropout": 0.0, "targets": TARGETS}
    common = {"epochs": 1, "learning_rate": 1e-4, "warmup_fraction": 0.1, "weight_decay": 0.0}
    values = {"lora": lora} if method == "lora" else {}
    return Train.model_validate(
        {
            "seed": 1,
            "threads": 1,
            "base": base,
            "method": method,
            "schedule": {**common, **schedule},
            "checkpoints": {"every_steps": 10**6},
            "compile": compiled,
            "export": "merged",
            **values,
        }
    )


def bare(work: Path, method: str) -> list[Moment]:
    import torch
    from transformers import get_cosine_schedule_with_warmup

    from glmops.train.batches import IGNORED, collate_for
    from glmops.train.order import Plan, Sampler

    rows, _, model, pad = opened(work, "rows", method, {"batch_size": BATCH})
    plan = Plan(rows.lengths, 1, BATCH, None)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
    steps = plan.steps()
    rate = get_cosine_schedule_with_warmup(optimizer, round(steps / 10), steps)
    collate = collate_for("glm", pad=pad, packed=False)
    model.train()
    start = now()
    for chosen in Sampler(plan, 0):
        batch = collate([rows[index] for index in chosen])
        labels = batch.pop("labels")
        logits = model(**batch, use_cache=False).logits
        torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED
        ).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
    return [start, now()]


def ours(work: Path, method: str, kind: str) -> list[Moment]:
    from transformers import TrainerCallback

    from glmops.train.loop import Phase, fit

    schedule = {"buckets": {"batch_tokens": PACK}, "packed": {"batch_size": 1}}.get(
        kind, {"batch_size": BATCH}
    )
    name = "packs" if kind == "packed" else "rows"
    rows, dev, model, pad = opened(work, name, method, schedule)
    times: list[Moment] = []

    class Clock(TrainerCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            times.append(now())

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            times[1:] = [now()]

    settings = settings_for(method, schedule)
    with tempfile.TemporaryDirectory() as scratch:
        phase = Phase(method, rows, dev, settings.schedule, "glm", pad, Path(scratch))
        fit(model, phase, settings, callbacks=[Clock()])
    return times


def opened(work: Path, name: str, method: str, schedule: dict[str, Any]) -> Any:
    import torch

    from glmops.models import load
    from glmops.train.methods import METHODS
    from glmops.train.rows import read_rows

    torch.set_num_threads(1)
    model, tokenizer = load(work / "model", dtype="float32", device="cpu")
    rows = read_rows(work / name / "train.arrow", len(tokenizer))
    dev = read_rows(work / name / "dev.arrow", len(tokenizer))
    model = METHODS[method](model, settings_for(method, schedule))
    return rows, dev, model, tokenizer.pad_token_id


def run_variant(name: str, work: Path, method: str) -> None:
    """One variant in this process; prints what it took."""
    begun = now()
    from glmops.train.lean import leave_out

    if name == "bare":
        start, end = bare(work, method)
    else:
        leave_out(settings_for(method, {"batch_size": BATCH}), ROOT)  # as the stage's process does
        start, end = ours(work, method, name.removeprefix("ours").removeprefix(", "))
    found = {"start": start[0] - begun[0], "wall": end[0] - start[0], "cpu": end[1] - start[1]}
    sys.stdout.write(f"\n{json.dumps(found)}\n")


def measure(name: str, work: Path, options: argparse.Namespace) -> dict[str, float]:
    """A new process for every run, so that imports and warm caches count for all alike."""
    if name in FACTORY:
        script = Path(__file__).with_name("llamafactory_train.py")
        command = [options.llamafactory, "-P", str(script), str(work), json.dumps(FACTORY[name])]
    else:
        command = [sys.executable, "-m", "benchmarks.train", "--work", str(work)]
        command += ["--variant", name, "--method", options.method]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(work: Path, options: argparse.Namespace) -> None:
    from glmops.models.tokenizers import load_tokenizer
    from glmops.train.rows import read_rows

    if not (work / "model").is_dir():
        make(work, options.rows, options.size)
    vocabulary = len(load_tokenizer(work / "model"))
    tokens = read_rows(work / "rows" / "train.arrow", vocabulary).num_tokens
    names = [*(options.only or VARIANTS), *(FACTORY if options.llamafactory else ())]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            found[name].append(measure(name, work, options))
            sys.stderr.write(f"{name:26} {tokens / found[name][-1]['wall']:7,.0f} tokens/s\n")
    sys.stdout.write("\n".join(table(found, tokens, options)) + "\n")


def table(
    found: dict[str, list[dict[str, float]]], tokens: int, options: argparse.Namespace
) -> Iterator[str]:
    """Ratios are of runs of one round, which the same other work slowed down."""
    what = f"{options.size} M parameters, {options.method}"
    yield f"{what}, {tokens:,} tokens, {options.rounds} rounds"
    yield ""
    yield f"| {'variant':26} | tokens/s | × bare | × bare, processor | start s |"
    yield f"|{'-' * 28}|---------:|-------:|------------------:|--------:|"
    reference = found.get("bare") or next(iter(found.values()))
    middle: Callable[..., float] = statistics.median
    for name, runs in found.items():
        speed = middle(tokens / run["wall"] for run in runs)
        wall, cpu = (
            middle(its[clock] / mine[clock] for its, mine in zip(reference, runs, strict=True))
            for clock in ("wall", "cpu")
        )
        start = middle(run["start"] for run in runs)
        yield f"| {name:26} | {speed:8,.0f} | {wall:6.2f} | {cpu:17.2f} | {start:7.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", choices=SIZES, default="7")
    parser.add_argument("--method", choices=("lora", "full"), default="lora")
    parser.add_argument("--only", nargs="*", choices=VARIANTS)
    parser.add_argument("--llamafactory", metavar="PYTHON", help="that of its environment")
    parser.add_argument("--work", type=Path, help="keep files here (default: a temporary folder)")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        run_variant(options.variant, options.work, options.method)
        return
    with tempfile.TemporaryDirectory() as temporary:
        compare(options.work or Path(temporary), options)


if __name__ == "__main__":
    main()
