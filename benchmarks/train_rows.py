"""What a training step costs as the set grows: 10,000, 100,000 and 1,000,000 rows.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.train_rows

The same model (1 million parameters, LoRA, one thread) takes the same number of steps of 2,048
tokens from sets of different sizes, each in a process of its own. A cost that grows linearly with
tokens is the same time a step; memory that does not grow with rows is the same number of bytes of
its own (the mapped file's pages, which the system takes back when it needs them, are counted
apart). Start is what passes from the process's first line to the first step: only the plan of the
rows' order grows there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.train import ROOT, make, now, settings_for

SIZES = (10_000, 100_000, 1_000_000)
STEPS, BATCH_TOKENS = 200, 2048
_CHUNK = 10_000


def write_rows(path: Path, rows: int, vocabulary: int) -> None:
    """Encoded rows of 22 to 45 random tokens, of which the last 3 are learnt."""
    import numpy as np
    import pyarrow as pa

    draw = np.random.default_rng(0)
    columns = {
        "id": pa.string(),
        "input_ids": pa.list_(pa.int32()),
        "loss_mask": pa.list_(pa.int8()),
    }
    schema = pa.schema(list(columns.items()))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for start in range(0, rows, _CHUNK):
            lengths = draw.integers(22, 46, min(_CHUNK, rows - start))
            ends = np.append(0, lengths.cumsum()).astype(np.int32)
            ids = draw.integers(20, vocabulary, ends[-1]).astype(np.int32)
            learnt = np.zeros(ends[-1], np.int8)
            for back in (1, 2, 3):
                learnt[ends[1:] - back] = 1
            names = [str(start + number) for number in range(len(lengths))]
            lists = [pa.ListArray.from_arrays(ends, values) for values in (ids, learnt)]
            writer.write_batch(pa.record_batch([pa.array(names), *lists], schema=schema))


def one_run(work: Path, rows: int) -> None:
    """Trains in this process and prints what it took."""
    begun = now()
    from glmops.train.lean import leave_out

    schedule = {"batch_tokens": BATCH_TOKENS, "epochs": None, "max_steps": STEPS}
    settings = settings_for("lora", schedule)
    leave_out(settings, ROOT)
    import torch
    from transformers import TrainerCallback

    from glmops.models import load
    from glmops.train.loop import Phase, fit
    from glmops.train.methods import METHODS
    from glmops.train.rows import read_rows

    torch.set_num_threads(1)
    model, tokenizer = load(work / "model", dtype="float32", device="cpu")
    train = read_rows(work / f"{rows}.arrow", len(tokenizer))
    dev = read_rows(work / "rows" / "dev.arrow", len(tokenizer))
    model = METHODS["lora"](model, settings)
    times: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(now())

    with tempfile.TemporaryDirectory() as scratch:
        phase = Phase(
            "lora", train, dev, settings.schedule, "glm", tokenizer.pad_token_id, Path(scratch)
        )
        fit(model, phase, settings, callbacks=[Clock()])
    # The first ten steps warm up torch and the allocator.
    (wall, cpu), (end_wall, end_cpu) = times[10], times[-1]
    steps = len(times) - 11
    found = {
        "start": times[0][0] - begun[0],
        "wall": (end_wall - wall) / steps * 1000,
        "cpu": (end_cpu - cpu) / steps * 1000,
        **resident(),
    }
    sys.stdout.write(f"\n{json.dumps(found)}\n")


def resident() -> dict[str, float]:
    """MiB in memory now: the process's own, and the pages of files."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    values = dict(line.split(":", 1) for line in lines)
    kinds = {"own": "RssAnon", "files": "RssFile"}
    return {name: int(values[kind].split()[0]) / 1024 for name, kind in kinds.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.work:
        one_run(asked.work, asked.rows)
        return
    sys.stdout.write(
        "|      rows | start s | ms a step | of the processor | own MiB | files MiB |\n"
    )
    sys.stdout.write(
        "|----------:|--------:|----------:|-----------------:|--------:|----------:|\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make(work, 256, "1")
        from glmops.models.tokenizers import load_tokenizer

        for rows in asked.sizes:
            write_rows(work / f"{rows}.arrow", rows, len(load_tokenizer(work / "model")))
            command = [sys.executable, "-m", "benchmarks.train_rows"]
            command += ["--work", str(work), "--rows", str(rows)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-4000:])
            found = json.loads(done.stdout.splitlines()[-1])
            sys.stdout.write(
                f"| {rows:9,} | {found['start']:7.1f} | {found['wall']:9.1f} | "
                f"{found['cpu']:16.1f} | {found['own']:7.0f} | {found['files']:9.0f} |\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
