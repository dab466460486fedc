"""Reading, gate and split, side by side: Toutiao-shaped lines → train, dev and test as Parquet.

    python -m benchmarks.prepare                            400,000 rows, both sides, two rounds
    python -m benchmarks.prepare --rows 4000000 --only ours --rounds 1     memory

- ours: the prepare stage's own function: reading, the whole gate with its Data Docs, repeats,
  conflicts, near copies, leaks, split, metrics and the written tables.
- plain: what a careful user writes without it: a row loop to JSON lines, ``json`` back into rows,
  one ``datasets.map`` row by row (prompt, length and character checks, the same side by the same
  hash), a filter a side, Parquet. It refuses a line of another width, an empty field and a second
  use of an id; it looks for no near copy, no conflict and no leak.

"to the split" ends where every row has been read, judged and given its side; "work" goes on to
the written tables and, on our side, Data Docs, data card and metrics.

Every run is a process of its own. "work" leaves its imports out, "process" does not; the peak is
the whole process's. Rounds are interleaved, because other work on the machine is not, and the table
shows the quickest of each.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.encode import titles

ROOT = Path(__file__).parents[1]
SHARES = {"dev": 0.05, "test": 0.15, "seed": 13}
HEAD = "下面是一条新闻标题，请说出它属于哪个类别。\n标题："
CUE = "\n类别："


def write_raw(path: Path, rows: int) -> None:
    """Lines of the five fields, with ids that count up; about half have keywords, as published."""
    from glmops.prepare.formats import CATEGORIES

    draw = random.Random(9)
    categories = list(CATEGORIES.items())
    with path.open("w", encoding="utf-8") as file:
        for number, title in enumerate(titles(rows)):
            code, name = draw.choice(categories)
            keywords = f"{title[:2]},{title[3:6]}" if draw.random() < 0.5 else ""
            fields = (f"{6551700932705387022 + number}", code, name, title, keywords)
            file.write("_!_".join(fields) + "\n")


_SPLIT: list[float] = []


def split_done() -> None:
    """Every row has been read, judged and given its side; what follows is writing and telling."""
    _SPLIT.append(time.perf_counter())


def ours(raw: Path, out: Path) -> Callable[[], dict[str, Any]]:
    drawing = ("jinja2", "matplotlib.figure", "matplotlib.backends.backend_svg")
    for name in ("pyarrow.parquet", "rensa", "scipy.stats", "glmops.prepare.rows", *drawing):
        importlib.import_module(name)
    importlib.import_module("glmops.prepare.gate.expectations")  # great-expectations
    from glmops.prepare.stage import prepare
    from glmops.recipe import Prepare

    # Generated titles repeat, under other categories too: no number of refusals is too many here.
    section = Prepare.model_validate(
        {
            "format": "toutiao",
            "tasks": ["classification"],
            "split": SHARES,
            "max_refused": {"rows": 10**9, "share": 1.0},
        }
    )

    def work() -> dict[str, Any]:
        folder = out / "ours"
        folder.mkdir()
        metrics = prepare(
            raw,
            section,
            root=raw.parent,
            folder=folder,
            work=out / "work",
            tell=lambda step: split_done() if step == "writing" else None,
        )
        return {name: counts["rows"] for name, counts in metrics["splits"].items()}

    return work


def plain(raw: Path, out: Path) -> Callable[[], dict[str, Any]]:
    import hashlib

    import datasets

    datasets.disable_progress_bars()
    datasets.disable_caching()
    start = f"{SHARES['seed']}\0"

    def as_json() -> Path:
        path = out / "rows.jsonl"
        with raw.open(encoding="utf-8") as lines, path.open("w", encoding="utf-8") as file:
            for line in lines:
                fields = line.rstrip("\n").split("_!_")
                if len(fields) == 5:
                    names = ("id", "code", "category", "title", "keywords")
                    row = dict(zip(names, fields, strict=True))
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return path

    seen: set[str] = set()

    def convert(row: dict[str, str]) -> dict[str, str]:
        prompt, target = HEAD + row["title"] + CUE, row["category"]
        group = " ".join(row["title"].split())
        place = hashlib.sha256((start + group).encode()).digest()[:8]
        share = int.from_bytes(place, "big") / 2**64
        test, dev = SHARES["test"], SHARES["dev"]
        side = "test" if share < test else "dev" if share < test + dev else "train"
        whole = group and target and len(prompt) + len(target) < 100_000
        clean = prompt.replace("\n", "").replace("\t", "").isprintable()
        if row["id"] in seen or not whole or not clean:
            side = "refused"
        seen.add(row["id"])
        return {"prompt": prompt, "target": target, "group": group, "side": side}

    def work() -> dict[str, Any]:
        with as_json().open(encoding="utf-8") as lines:
            rows = datasets.Dataset.from_list([json.loads(line) for line in lines])
        rows = rows.map(convert, remove_columns=["code", "category", "title", "keywords"])
        parts = {
            side: rows.filter(lambda own, side=side: own == side, input_columns="side")
            for side in ("train", "dev", "test")
        }
        split_done()
        for side, part in parts.items():
            part.to_parquet(out / f"{side}.parquet")
        return {side: len(part) for side, part in parts.items()}

    return work


SIDES: dict[str, Callable[[Path, Path], Callable[[], dict[str, Any]]]] = {
    "ours": ours,
    "plain": plain,
}


def one_run(side: str, raw: Path) -> None:
    """What a process of its own does: one run, its numbers as one line of JSON."""
    import warnings

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=raw.parent) as out:
        work = SIDES[side](raw, Path(out))
        start = time.perf_counter()
        found = work()
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = {"work": seconds, "split": _SPLIT[0] - start, "peak": peak, "rows": found}
    sys.stdout.write(json.dumps(result) + "\n")


def measured(side: str, raw: Path) -> dict[str, Any]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.prepare", "--run", side, "--raw", str(raw)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**result, "process": time.perf_counter() - start}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=SIDES)
    parser.add_argument("--run", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.run:
        one_run(asked.run, asked.raw)
        return {}
    sides = [asked.only] if asked.only else list(SIDES)
    best: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="glmops-benchmark-") as folder:
        raw = Path(folder) / "toutiao.txt"
        write_raw(raw, asked.rows)
        for _ in range(asked.rounds):
            for side in sides:
                run = measured(side, raw)
                if side not in best or run["work"] < best[side]["work"]:
                    best[side] = run
    slowest = {part: max(run[part] for run in best.values()) for part in ("split", "work")}
    lines = [
        f"{'':6} {'to the split s':>14} {'ratio':>6} {'work s':>8} {'ratio':>6} "
        f"{'process s':>10} {'rows/s':>9} {'peak MB':>8}"
    ]
    for side, run in best.items():
        lines.append(
            f"{side:6} {run['split']:14.1f} {slowest['split'] / run['split']:6.1f} "
            f"{run['work']:8.1f} {slowest['work'] / run['work']:6.1f} {run['process']:10.1f} "
            f"{asked.rows / run['work']:9.0f} {run['peak'] / 1e6:8.0f}"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    report = {"rows": asked.rows, "results": best}
    sys.stdout.write(json.dumps(report) + "\n")
    return report


if __name__ == "__main__":
    main()
