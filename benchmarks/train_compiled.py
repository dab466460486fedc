"""What torch.compile costs and brings: the same steps with and without it.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.train_compiled

LoRA of rank 8 on a GLM of 7 million parameters, packs of up to 512 tokens, float32, one thread. The
compiler works in the first steps, once for each shape until it takes lengths as they come; what it
brings shows in the rest. Both runs are processes of their own, one after the other.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.train import ROOT, SIZES, make, settings_for

FIRST = 6
"""Steps in which the compiler works."""


def one_run(work: Path, steps: int, *, compiled: bool) -> None:
    """Trains in this process and prints what it took."""
    from glmops.train.lean import leave_out

    schedule = {"batch_size": 1, "epochs": None, "max_steps": steps}
    settings = settings_for("lora", schedule, compiled=compiled)
    leave_out(settings, ROOT)
    from transformers import TrainerCallback

    from benchmarks.train import opened
    from glmops.train.loop import Phase, fit

    rows, dev, model, pad = opened(work, "packs", "lora", schedule)
    ends = [time.perf_counter()]

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            ends[:] = [time.perf_counter()]

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as scratch:
        phase = Phase("lora", rows, dev, settings.schedule, "glm", pad, Path(scratch))
        fit(model, phase, settings, callbacks=[Clock()])
    later = [end - start for start, end in itertools.pairwise(ends[FIRST:])]
    found = {"first": ends[FIRST] - ends[0], "step": statistics.median(later)}
    sys.stdout.write(f"\n{json.dumps(found)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--size", choices=SIZES, default="7")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        one_run(asked.work, asked.steps, compiled=asked.compiled)
        return
    sys.stdout.write(f"|          | first {FIRST} steps, s | ms a step after them |\n")
    sys.stdout.write("|:---------|-----------------:|---------------------:|\n")
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), 256, asked.size)
        for name, more in (("plain", []), ("compiled", ["--compiled"])):
            command = [sys.executable, "-m", "benchmarks.train_compiled", "--work", folder]
            command += ["--steps", str(asked.steps), *more]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-4000:])
            found = json.loads(done.stdout.splitlines()[-1])
            row = f"| {name:8} | {found['first']:16.1f} | {found['step'] * 1000:20.0f} |\n"
            sys.stdout.write(row)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
