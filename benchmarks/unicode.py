"""ChatGLM-6B's tokenizer against the SentencePiece library: made strings and real text, all ways.

    python -m benchmarks.unicode                    20,000 nasty strings, then every text in shared
    python -m benchmarks.unicode --count 200000 --seed 2 --no-real

Prints, for each vocabulary, how many strings differ: through the router (Rust, and the exact way
for what Rust would get wrong), in bulk, and with Rust alone, which shows what is at stake. Anything
but 0 in the first two columns is a fault.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from glmops.models.tokenizers import load_tokenizer

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("GLMOPS_SHARED", ROOT.parent / "shared"))
sys.path.append(str(ROOT / "tests"))
PORTION = 10_000


def real_texts() -> list[str]:
    """Every string in the shared data, each once: rows, and the fields of rows."""
    csv.field_size_limit(10**9)
    texts: dict[str, None] = {}
    for file in sorted((SHARED / "data").rglob("*")):
        if file.is_file() and "bad_inputs" not in file.parts:
            content = (
                gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            )
            text = content.decode("gb18030" if "gb18030" in file.name else "utf-8")
            texts.update(dict.fromkeys(_strings(file.name.removesuffix(".gz"), text)))
    return list(texts)


def _strings(name: str, text: str) -> Iterator[str]:
    lines = [line for line in text.split("\n") if line.strip()]
    if name.endswith((".json", ".jsonl")):
        try:
            values = [json.loads(text)]
        except ValueError:
            values = [json.loads(line) for line in lines]
        yield from _leaves(values)
    elif name.endswith(".csv"):
        for row in csv.reader(io.StringIO(text)):
            yield from row
    else:
        for line in lines:
            yield line
            yield from line.split("_!_" if "_!_" in line else "\t")


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)


def differences(tokenizer: Any, oracle: Any, texts: Sequence[str]) -> dict[str, int]:
    """How many texts have other ids than the library's, by the way that they took."""
    counts = {"router": 0, "bulk": 0, "Rust alone": 0}
    backend = tokenizer.backend_tokenizer
    for start in range(0, len(texts), PORTION):
        part = list(texts[start : start + PORTION])
        expected = [oracle.ids(text) for text in part]
        backend.encode_special_tokens = True
        ways = {
            "router": [e.ids for e in backend.encode_batch(part, add_special_tokens=False)],
            "bulk": tokenizer(part, add_special_tokens=False, split_special_tokens=True).input_ids,
            "Rust alone": [
                e.ids for e in backend._whole.encode_batch(part, add_special_tokens=False)
            ],
        }
        for way, found in ways.items():
            counts[way] += sum(a != b for a, b in zip(found, expected, strict=True))
    return counts


def main() -> None:
    from chatglm_text import Oracle, nasty

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-real", action="store_true")
    asked = parser.parse_args()
    sets = {f"{asked.count} nasty strings": nasty(asked.count, asked.seed)}
    if not asked.no_real:
        real = real_texts()
        sets[f"{len(real)} real texts"] = real
    for name in ("v1", "v1-official"):
        folder = SHARED / "reference/tokenizer" / name
        tokenizer, oracle = load_tokenizer(folder), Oracle(folder / "ice_text.model")
        for kind, texts in sets.items():
            print(name, kind, differences(tokenizer, oracle, texts), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
