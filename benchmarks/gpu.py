"""Full-size ChatGLM on one GPU, with random weights: memory and tokens per second.

    python -m benchmarks.gpu --quick --out results        every case, under five minutes
    python -m benchmarks.gpu --device cpu --size tiny     does it run at all

"used" is all that is taken on the card at the end of a case, the CUDA context and what torch keeps
aside included: what nvidia-smi shows, and the most, as torch gives nothing back while a case runs.
"tensors" is torch's own peak, "weights" what the model took. 1 GB = 10^9 bytes. "MFU" is the share
of the card's peak in bfloat16 that the model's matrices need (see ``flops_per_token``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_cases import CASES, Outcome, measure

PUBLISHED_NF4_GB = 6.7
"""ChatGLM-6B's own P-tuning page: INT4, batch 1, accumulation 16, 64 + 64 tokens."""

NEEDED = {
    "transformers": (5, 23),
    "peft": (0, 21),
    "pydantic": (2, 12),
    "safetensors": (0, 5),
    "bitsandbytes": (0, 50),
}
"""The oldest versions; bitsandbytes only for the nf4 cases."""


def missing(asked: argparse.Namespace) -> list[str]:
    """What this machine lacks, a line each; the cases that need it are left out."""
    lines = []
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        lines.append(f"torch {torch.__version__} sees no CUDA device: give --device cpu")
    for package, oldest in NEEDED.items():
        found = installed(package)
        mend = f"pip install -c constraints.txt {package}"
        if found is None:
            lines.append(f"{package} is not installed: {mend}")
        elif tuple(int(part) for part in found.split(".")[:2]) < oldest:
            lines.append(f"{package} {found} is older than what glmops is written for: {mend}")
    return lines


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine(asked: argparse.Namespace) -> dict[str, Any]:
    packages = ("torch", "transformers", "peft", "bitsandbytes")
    name = torch.cuda.get_device_name() if asked.device.startswith("cuda") else "CPU"
    return {"device": name, **{package: installed(package) for package in packages}}


def table(outcomes: Sequence[Outcome], failed: dict[str, str]) -> list[str]:
    columns = f"{'weights':>8} {'tensors':>8} {'used GB':>8} {'MFU':>6}"
    lines = [f"{'case':42} {'s/step':>8} {'tokens/s':>9} {columns}"]
    for each in outcomes:
        sizes = " ".join(
            f"{'-' if size is None else format(size, '.2f'):>8}"
            for size in (each.weights_gb, each.tensors_gb, each.used_gb)
        )
        verdict = ""
        if "nf4" in each.case and each.used_gb is not None:
            below = "below" if each.used_gb < PUBLISHED_NF4_GB else "NOT below"
            verdict = f"  {below} the published {PUBLISHED_NF4_GB} GB"
        share = "-" if each.utilisation is None else f"{each.utilisation:.1%}"
        sizes = f"{sizes} {share:>6}"
        numbers = f"{each.seconds:8.3f} {each.tokens_per_second:9.1f}"
        lines.append(f"{each.case:42} {numbers} {sizes}{verdict}")
    return lines + [f"{case:42} FAILED: {reason}" for case, reason in failed.items()]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    made.add_argument("--device", default="cuda")
    made.add_argument("--size", choices=("full", "tiny"), default="full")
    made.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    made.add_argument("--steps", type=int, default=8, help="counted steps of each case")
    made.add_argument("--quick", action="store_true", help="the same as --steps 2")
    made.add_argument("--only", default="", help="cases whose name has this in it")
    made.add_argument("--prefix", type=int, default=128, help="slots of the prefix")
    made.add_argument("--new-tokens", type=int, default=128)
    made.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parser().parse_args(arguments)
    asked.steps = 2 if asked.quick else asked.steps
    absent = missing(asked)
    for line in absent:
        say(f"missing: {line}")
    without_nf4 = [line for line in absent if line.startswith("bitsandbytes")]
    if absent != without_nf4:
        return 1
    start = time.perf_counter()
    outcomes, failed = [], {}
    for case in (each for each in CASES if asked.only in each.name):
        if case.nf4 and without_nf4:
            failed[case.name] = without_nf4[0]
            continue
        try:
            outcomes.append(measure(case, asked))
        except Exception as error:  # noqa: BLE001  rented time is dear: the other cases still run
            failed[case.name] = f"{type(error).__name__}: {error}".splitlines()[0]
            traceback.print_exc()
        say(f"{time.perf_counter() - start:6.0f} s  {case.name}")
    for line in table(outcomes, failed):
        say(line)
    options = {name: str(value) for name, value in vars(asked).items()}
    report = {
        "machine": machine(asked),
        "options": options,
        "outcomes": [asdict(each) for each in outcomes],
        "failed": failed,
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    say(json.dumps(report))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
