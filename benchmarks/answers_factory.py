"""Rows answered per second: ours, and LLaMA-Factory's ``predict_with_generate``.

    OMP_NUM_THREADS=1 python -m benchmarks.answers_factory --llamafactory PYTHON

``PYTHON`` is the interpreter of its environment. The same GLM of 7 million random parameters writes
32 tokens for the same short headlines on one thread; the two sides take turns, each in a process of
its own, and a ratio is the median of the rounds'.
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
from pathlib import Path

from benchmarks.train import ROOT, make

BATCH_SIZE = 128


def ours(work: Path, new_tokens: int) -> None:
    """Answers in this process; prints the rate."""
    import pyarrow.parquet as pq
    import torch

    from glmops.evaluate.engines import Torch
    from glmops.models import load
    from glmops.models.generation import plan_batches
    from glmops.models.tokenizers import text_ids

    torch.set_num_threads(1)
    model, tokenizer = load(work / "model", dtype="float32", device="cpu")
    texts = pq.read_table(work / "factory" / "rows.parquet")["prompt"].to_pylist()
    prompts = [text_ids(text, tokenizer) for text in texts]
    engine = Torch(model, tokenizer)
    engine.write(prompts[:8], [tokenizer.eos_token_id], 2)
    start = time.perf_counter()
    for batch in plan_batches([len(prompt) for prompt in prompts], new_tokens, BATCH_SIZE):
        engine.write([prompts[place] for place in batch], [tokenizer.eos_token_id], new_tokens)
    rate = len(prompts) / (time.perf_counter() - start)
    sys.stdout.write(f"\n{json.dumps({'rows_per_second': rate})}\n")


def measured(command: list[str]) -> float:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["rows_per_second"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--llamafactory", metavar="PYTHON", help="that of its environment")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.work:
        ours(asked.work, asked.new_tokens)
        return
    if not asked.llamafactory:
        parser.error("needs --llamafactory PYTHON")
    found: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        make(work, asked.rows, "7")
        script = str(Path(__file__).with_name("llamafactory_answers.py"))
        tokens = str(asked.new_tokens)
        mine = [sys.executable, "-m", "benchmarks.answers_factory"]
        for _ in range(asked.rounds):
            theirs = measured([asked.llamafactory, "-P", script, str(work), tokens])
            own = measured([*mine, "--work", str(work), "--new-tokens", tokens])
            found.append((theirs, own))
            sys.stdout.write(f"LLaMA-Factory {theirs:.1f}, ours {own:.1f} rows/s\n")
    ratio = statistics.median(own / theirs for theirs, own in found)
    sys.stdout.write(f"{ratio:.1f} x, the median of {asked.rounds} rounds\n")


if __name__ == "__main__":
    main()
