"""Tokenizer speed on headlines, side by side with what a user would pick instead.

    python -m benchmarks.tokenizers                 100,000 headlines, 1 and 4 threads, three rounds
    python -m benchmarks.tokenizers --model DIR     another ChatGLM-6B tokenizer than the shared one

The official vocabulary and the headlines come from the folder of shared data (GLMOPS_SHARED or
../shared); where there are fewer headlines, halves of two are put together. Every variant gives the
same ids (checked) and runs as a process of its own; rounds are interleaved, because other work on
the machine is not, and the best of each counts.

- sentencepiece: the library alone, without ChatGLM's rules for white space: not the same ids.
- sentencepiece + rules: the 81 replacements in Python, then the library.
- slow: the same inside transformers' Python tokenizer, as the original is built.
- ours, Rust alone: our tokenizer's Rust side (``backend_tokenizer.encode_batch``).
- ours: ``tokenizer(headlines)``, as every transformers user calls it; SentencePiece finds the ids
  of such a batch, Rust whatever is more than ids.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("GLMOPS_SHARED", ROOT.parent / "shared"))
MODEL = SHARED / "reference/tokenizer/v1-official"
VARIANTS = ("sentencepiece", "sentencepiece + rules", "slow", "ours, Rust alone", "ours")
REFERENCE = "slow"

Encode = Callable[[Sequence[str]], list[list[int]]]


def headlines(count: int) -> list[str]:
    """Real headlines, each once; then halves of two."""
    titles: dict[str, None] = {}
    for file in sorted((SHARED / "data/toutiao").glob("toutiao_cat_data.*.part.txt.gz")):
        for line in gzip.decompress(file.read_bytes()).decode("utf-8").splitlines():
            if line.count("_!_") >= 4:
                titles[line.split("_!_")[3]] = None
    found = list(titles)
    draw = random.Random(7)
    while len(found) < count:
        left, right = draw.choice(found), draw.choice(found)
        found.append(left[: len(left) // 2] + right[len(right) // 2 :])
    draw.shuffle(found)
    return found[:count]


def with_rules(text: str) -> str:
    """ChatGLM-6B's own preparation of white space, as its code words it."""
    text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
    for count in range(80, 1, -1):
        text = text.replace(" " * count, f"<|blank_{count}|>")
    return text


def slow_tokenizer(model: Path) -> Any:
    """ChatGLM-6B on transformers' Python tokenizer: rules and SentencePiece for each string."""
    import sentencepiece
    from transformers import PreTrainedTokenizer

    class Slow(PreTrainedTokenizer):
        """Built in layers as the original is: a text is prepared and cut into pieces, and each
        piece is then looked up, where names of images come first."""

        def __init__(self) -> None:
            self.pieces = sentencepiece.SentencePieceProcessor(
                model_file=str(model / "ice_text.model")
            )
            super().__init__(
                bos_token="<sop>",
                eos_token="<eop>",
                unk_token="<unk>",
                pad_token="<pad>",
                mask_token="[MASK]",
                padding_side="left",
            )

        @property
        def vocab_size(self) -> int:
            return self.pieces.vocab_size()

        def get_vocab(self) -> dict[str, int]:
            return {self.pieces.id_to_piece(i): i for i in range(self.vocab_size)}

        def _tokenize(self, text: str, **_: Any) -> list[str]:
            return self.pieces.encode(with_rules(text), out_type=str)

        def _convert_token_to_id(self, token: str) -> int:
            if token.startswith("<image_") and token.endswith(">") and token[7:-1].isdigit():
                return int(token[7:-1])
            return self.pieces.piece_to_id(token)

        def _convert_id_to_token(self, index: int) -> str:
            return self.pieces.id_to_piece(index)

    return Slow()


def encoder(variant: str, model: Path) -> Encode:
    if variant.startswith("ours"):
        from glmops.models.tokenizers import load_tokenizer

        tokenizer = load_tokenizer(model)
        if variant == "ours":
            return lambda texts: tokenizer(list(texts), add_special_tokens=False).input_ids
        backend = tokenizer.backend_tokenizer
        return lambda texts: [
            row.ids for row in backend.encode_batch(list(texts), add_special_tokens=False)
        ]
    if variant == "slow":
        slow = slow_tokenizer(model)
        return lambda texts: slow(list(texts), add_special_tokens=False).input_ids
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model / "ice_text.model"))
    if variant == "sentencepiece":
        return lambda texts: [pieces.encode(text) for text in texts]
    return lambda texts: [pieces.encode(with_rules(text)) for text in texts]


def run_one(variant: str, model: Path, count: int, threads: int) -> dict[str, Any]:
    """Seconds for all headlines, and a digest of the ids."""
    texts = headlines(count)
    encode = encoder(variant, model)
    encode(texts[:100])
    begun = time.perf_counter()
    if threads == 1 or variant.startswith("ours"):  # Rust has threads of its own
        rows = encode(texts)
    else:
        share = -(-count // threads)
        with ThreadPoolExecutor(threads) as pool:
            parts = pool.map(encode, [texts[i : i + share] for i in range(0, count, share)])
            rows = [row for part in parts for row in part]
    seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "digest": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }


def measure(variant: str, asked: argparse.Namespace, threads: int) -> dict[str, Any]:
    """``run_one`` in a process of its own with so many Rust threads."""
    command = [sys.executable, "-m", "benchmarks.tokenizers", "--one", variant]
    command += ["--model", str(asked.model), "--count", str(asked.count)]
    command += ["--threads", str(threads)]
    environment = {
        **os.environ,
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run_one(asked.one, asked.model, asked.count, asked.threads[0])))  # noqa: T201
        return
    best: dict[tuple[str, int], float] = {}
    digests: dict[str, str] = {}
    for _ in range(asked.rounds):
        for variant in VARIANTS:
            for threads in asked.threads:
                result = measure(variant, asked, threads)
                key = variant, threads
                best[key] = min(best.get(key, float("inf")), result["seconds"])
                digests[variant] = result["digest"]
    same = {digests[variant] for variant in VARIANTS if variant != "sentencepiece"}
    print(f"{asked.count} headlines, thousand a second; ids equal: {len(same) == 1}")  # noqa: T201
    print("| | " + " | ".join(f"{t} threads | × slow" for t in asked.threads) + " |")  # noqa: T201
    print("|---|" + "---|" * 2 * len(asked.threads))  # noqa: T201
    for variant in VARIANTS:
        cells = []
        for threads in asked.threads:
            seconds = best[variant, threads]
            cells.append(f"{asked.count / seconds / 1000:.0f}")
            cells.append(f"{best[REFERENCE, threads] / seconds:.1f}")
        print(f"| {variant} | " + " | ".join(cells) + " |")  # noqa: T201


if __name__ == "__main__":
    main()
