"""ROUGE and BLEU-4 of Chinese pairs, side by side with the official script's way.

    python -m benchmarks.score                              20,000 pairs of about 64 characters
    python -m benchmarks.score --texts FILE --field summary  pairs from real texts, one JSON a line

- official: what ptuning/main.py of ChatGLM-6B does with each pair: jieba, rouge-chinese, and nltk's
  sentence_bleu with smoothing method 3, in one process.
- ours: `glmops.evaluate.texts.score_pairs` with 1 and with 4 processes. It counts for sacreBLEU
  too, which the official script does not.

Each run is a process of its own that writes every value's hash: they must be equal. "all" counts
from the start of the process, with imports and dictionaries, and so does "cpu", the processor time
of all processes; "pairs" and the first ratio are without imports, and for one process without the
dictionary. Rounds are interleaved, because other work on the machine is not;
the table shows the quickest of each.

Without ``--texts`` the texts are drawn from jieba's own dictionary, words by their frequency, with
punctuation; a prediction is another text for some clauses and the reference for the others.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SIDES = {"official": 0, "ours, 1 process": 1, "ours, 4 processes": 4}
CHARACTERS = 64


def drawn_texts(number: int) -> Iterator[str]:
    """Clauses of 4 to 9 words, to about `CHARACTERS` characters."""
    import jieba

    with jieba.Tokenizer().get_dict_file() as file:
        fields = file.read().decode("utf-8").split()
    words, weights = fields[::3], list(itertools.accumulate(map(int, fields[1::3])))
    draw = random.Random(7)
    for _ in range(number):
        text = ""
        while len(text) < CHARACTERS - 4:
            clause = "".join(draw.choices(words, cum_weights=weights, k=draw.randint(4, 9)))
            text += clause + draw.choice("，，，。。！；")
        yield text


def texts_of(path: Path, field: str) -> list[str]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [row[field][: CHARACTERS + place % 9 - 4] for place, row in enumerate(rows)]


def write_pairs(path: Path, texts: list[str], number: int) -> None:
    draw = random.Random(9)
    pairs = []
    for place in range(number):
        reference, other = texts[place % len(texts)], draw.choice(texts)
        cut = draw.randrange(len(reference))
        pairs.append((reference[:cut] + other[cut:], reference))
    path.write_text(json.dumps(pairs, ensure_ascii=False), encoding="utf-8")


def official(pairs: list[tuple[str, str]]) -> list[tuple[float, ...]]:
    import jieba
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from rouge_chinese import Rouge

    jieba.setLogLevel(60)
    values = []
    for prediction, reference in pairs:
        hypothesis, truth = list(jieba.cut(prediction)), list(jieba.cut(reference))
        scores = Rouge().get_scores(" ".join(hypothesis), " ".join(truth))[0]
        row = [round(scores[name]["f"] * 100, 4) for name in ("rouge-1", "rouge-2", "rouge-l")]
        smooth = SmoothingFunction().method3
        bleu = sentence_bleu([list(reference)], list(prediction), smoothing_function=smooth)
        values.append((*row, round(bleu * 100, 4)))
    return values


def ours(pairs: list[tuple[str, str]], processes: int) -> list[tuple[float, ...]]:
    from glmops.evaluate.texts import score_pairs

    sides = [prediction for prediction, _ in pairs], [reference for _, reference in pairs]
    return [pair.values for pair in score_pairs(*sides, processes=processes)]


def one_side(path: Path, processes: int) -> dict[str, Any]:
    pairs = [(a, b) for a, b in json.loads(path.read_text(encoding="utf-8"))]
    warm = pairs[:1]
    if processes == 0:
        official(warm)
    elif processes == 1:
        ours(warm, 1)
    started = time.perf_counter()
    values = ours(pairs, processes) if processes else official(pairs)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "values": hashlib.sha256(repr(values).encode()).hexdigest()}


def measure(path: Path, processes: int) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.score", "--side", str(processes)]
    started, used = time.perf_counter(), os.times()
    done = subprocess.run(
        [*command, "--file", str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, now = time.perf_counter() - started, os.times()
    cpu = now.children_user + now.children_system - used.children_user - used.children_system
    return {"all": seconds, "cpu": cpu, **json.loads(done.stdout)}


def main(arguments: list[str] | None = None) -> dict[str, Any] | None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--field", default="summary")
    parser.add_argument("--side", type=int)
    parser.add_argument("--file", type=Path)
    asked = parser.parse_args(arguments)
    if asked.side is not None:
        sys.stdout.write(json.dumps(one_side(asked.file, asked.side)))
        return None
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "pairs.json"
        texts = texts_of(asked.texts, asked.field) if asked.texts else list(drawn_texts(5_000))
        write_pairs(path, texts, asked.pairs)
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(asked.rounds):
            for side, processes in SIDES.items():
                runs[side].append(measure(path, processes))
    hashes = {run["values"] for side in runs.values() for run in side}
    report: dict[str, Any] = {"pairs": asked.pairs, "equal": len(hashes) == 1}
    for side, taken in runs.items():
        report[side] = {key: min(run[key] for run in taken) for key in ("seconds", "all", "cpu")}
    show(report)
    return report


def show(report: dict[str, Any]) -> None:
    base, lines = (
        report["official"],
        [f"{'':<20}{'pairs/s':>10}{'× official':>12}{'all':>10}{'cpu':>10}"],
    )
    for side in SIDES:
        row = report[side]
        rate = report["pairs"] / row["seconds"]
        ratios = f"{base['seconds'] / row['seconds']:>12.1f}{base['all'] / row['all']:>10.1f}"
        ratios += f"{base['cpu'] / row['cpu']:>10.1f}"
        lines.append(f"{side:<20}{rate:>10,.0f}{ratios}")
    lines.append(f"equal values: {report['equal']}")
    sys.stdout.write("\n".join([*lines, json.dumps(report)]) + "\n")


if __name__ == "__main__":
    main()
