"""Encoding speed and memory, side by side: prepared Parquet → ids, loss masks, Arrow on disk.

    python -m benchmarks.encode                      400,000 rows, every variant, three rounds
    python -m benchmarks.encode --rows 4000000 --only ours --rounds 1

All variants read one Parquet file of generated rows in the shape of Toutiao headlines, encode them
with one byte-level BPE of 8,000 entries and write Arrow; their ids are compared. ``--cut han`` is
the tokenizer that a recipe trains (a Chinese character is a piece of its own), ``--cut letters``
one that cuts texts as GLM-4 does. Rounds are interleaved, because other work on the machine is not;
the table shows the best round of each, as whole processes with all that they import.

- limit: what a specialist would write for these rows alone: polars, the batched tokenizer, the
  constant ends of the prompt once, each label once, four processes. No masks for other tasks, no
  cache, no refusals, no metrics.
- ours: the encode stage's own function, token cache empty; then once more, all of it in the cache.
- datasets.map: batched, four processes, the whole prompt through transformers.
- LLaMA-Factory, 4 workers: with ``--llamafactory PYTHON``, an environment that has it. Its own
  imports are left out, everything else counts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEAD = "下面是一条新闻标题，请说出它属于哪个类别。\n标题："
CUE = "\n类别："
LABELS = ["文化", "娱乐", "体育", "财经", "房产", "汽车", "教育", "科技", "军事", "旅游", "电竞"]
PROCESSES = 4
PORTION = 10_000
SETTINGS = {
    "family": "glm",
    "max_prompt_tokens": 256,
    "max_answer_tokens": 16,
    "base_text": "none",
}


def titles(rows: int) -> Iterator[str]:
    """Headlines of 15 to 30 characters: words by a Zipf law, digits, Latin, punctuation."""
    draw = random.Random(7)
    letters = draw.sample([chr(code) for code in range(0x4E00, 0x9FA5)], 3500)
    weights = [1 / (rank + 3) for rank in range(len(letters))]
    words = [
        "".join(draw.choices(letters, weights, k=draw.choice((1, 2, 2, 2, 3))))
        for _ in range(20_000)
    ]
    words += ["2018", "3D", "GDP", "iPhone 8", "NBA", "，", "？", "：", "！", "《", "》"] * 80
    for _ in range(rows):
        yield "".join(draw.choices(words, k=draw.randint(8, 15)))


def write_prepared(folder: Path, rows: int) -> None:
    """train.parquet and a small dev.parquet, as the prepare stage writes them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = random.Random(8)
    for name, count in (("train", rows), ("dev", 100)):
        writer, number, source = None, 0, titles(count)
        while number < count:
            bodies = [next(source) for _ in range(min(250_000, count - number))]
            columns = {
                "id": [f"{6551700932705387022 + number + i}" for i in range(len(bodies))],
                "task": ["classification"] * len(bodies),
                "head": [HEAD] * len(bodies),
                "body": bodies,
                "cue": [CUE] * len(bodies),
                "target": draw.choices(LABELS, k=len(bodies)),
                "group": bodies,
                "file": ["toutiao.txt"] * len(bodies),
                "line": list(range(number + 1, number + len(bodies) + 1)),
                "template": ["headline-category"] * len(bodies),
                "turns": [""] * len(bodies),
            }
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(folder / f"{name}.parquet", table.schema)
            writer.write_table(table)
            number += len(bodies)
        if writer:
            writer.close()


def write_tokenizer(prepared: Path, cut: str, folder: Path) -> None:
    import pyarrow.parquet as pq
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from glmops.models.tokenizers import SPECIAL_TOKENS, train_tokenizer
    from glmops.models.tokenizers.tiktoken import PATTERN

    batch = next(pq.ParquetFile(prepared / "train.parquet").iter_batches(20_000))
    texts = (HEAD + row["body"] + CUE + row["target"] for row in batch.to_pylist())
    if cut == "han":
        train_tokenizer(texts, 8000).save_pretrained(str(folder))
        return
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=8000, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=SPECIAL_TOKENS[0],
        pad_token=SPECIAL_TOKENS[0],
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
    ).save_pretrained(str(folder))


def ours(prepared: Path, tokenizer: Path, out: Path) -> None:
    from glmops.encode.dataset import encode_dataset
    from glmops.encode.vocabulary import tokenizer_hash
    from glmops.recipe import Encode

    source = {"path": str(tokenizer), "sha256": tokenizer_hash(tokenizer)}
    settings = Encode.model_validate({**SETTINGS, "tokenizer": source})
    encode_dataset(prepared, settings, root=ROOT, folder=out / "encoded", cache=out / "cache")


def limit(prepared: Path, tokenizer: Path, out: Path) -> None:
    import multiprocessing

    import polars
    import pyarrow as pa

    frame = polars.read_parquet(prepared / "train.parquet", columns=["id", "body", "target"])
    portions = [
        (part["id"].to_list(), part["body"].to_list(), part["target"].to_list())
        for part in frame.iter_slices(PORTION)
    ]
    with (
        multiprocessing.get_context("fork").Pool(
            PROCESSES, _limit_start, (str(tokenizer / "tokenizer.json"),)
        ) as pool,
        pa.OSFile(str(out / "train.arrow"), "wb") as sink,
    ):
        stream = None
        for data in pool.imap(_limit_portion, portions):
            table = pa.ipc.open_stream(data).read_all()
            stream = stream or pa.ipc.new_stream(sink, table.schema)
            stream.write_table(table)
        if stream:
            stream.close()


_limit: dict[str, Any] = {}


def _limit_start(file: str) -> None:
    from tokenizers import Tokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = Tokenizer.from_file(file)
    tokenizer.encode_special_tokens = True
    before = [tokenizer.token_to_id("[gMASK]"), tokenizer.token_to_id("<sop>")]
    end = [tokenizer.token_to_id("<|endoftext|>")]
    # Both tokenizers cut a text between 题 and ： and, of the cue, before 类 or behind 别.
    _limit["tokenizer"] = tokenizer
    _limit["middle"] = CUE[:-1] if "[^\\r\\n" in tokenizer.to_str() else CUE[0]
    _limit["head"] = before + tokenizer.encode(HEAD[:-1], add_special_tokens=False).ids
    rest = CUE.removeprefix(_limit["middle"])
    _limit["cue"] = tokenizer.encode(rest, add_special_tokens=False).ids
    for label in LABELS:
        _limit[label] = tokenizer.encode(label, add_special_tokens=False).ids + end


def _limit_portion(portion: tuple[list[str], list[str], list[str]]) -> bytes:
    import pyarrow as pa

    names, bodies, targets = portion
    tokenizer, head, cue = (_limit[name] for name in ("tokenizer", "head", "cue"))
    texts = [HEAD[-1] + body + _limit["middle"] for body in bodies]
    rows, masks = [], []
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    for encoding, target in zip(encodings, targets, strict=True):
        prompt, answer = head + encoding.ids + cue, _limit[target]
        rows.append(prompt + answer)
        masks.append([0] * len(prompt) + [1] * len(answer))
    table = pa.table(
        {
            "id": names,
            "input_ids": pa.array(rows, pa.list_(pa.int32())),
            "loss_mask": pa.array(masks, pa.list_(pa.int8())),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def datasets_map(prepared: Path, tokenizer: Path, out: Path) -> None:
    os.environ["HF_DATASETS_CACHE"] = str(out / "hf")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from datasets import Dataset, disable_progress_bars

    from glmops.models.tokenizers import load_tokenizer, special_ids

    disable_progress_bars()
    loaded = load_tokenizer(tokenizer)
    before, end = special_ids(["[gMASK]", "<sop>"], loaded), special_ids(["<|endoftext|>"], loaded)

    def encode(rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        parts = zip(rows["head"], rows["body"], rows["cue"], strict=True)
        settings = {"add_special_tokens": False, "split_special_tokens": True}
        prompts = loaded([head + body + cue for head, body, cue in parts], **settings).input_ids
        answers = loaded(rows["target"], **settings).input_ids
        ids, masks = [], []
        for prompt, answer in zip(prompts, answers, strict=True):
            ids.append([*before, *prompt, *answer, *end])
            masks.append([0] * (2 + len(prompt)) + [1] * (len(answer) + 1))
        return {"input_ids": ids, "loss_mask": masks}

    rows = Dataset.from_parquet(str(prepared / "train.parquet"), cache_dir=str(out / "hf"))
    unneeded = [name for name in rows.column_names if name != "id"]
    encoded = rows.map(encode, batched=True, num_proc=PROCESSES, remove_columns=unneeded)
    encoded.save_to_disk(str(out / "saved"))


def llamafactory(python: str, work: Path) -> dict[str, float]:
    """The real thing, in an environment of its own; its rows are made ready outside the clock."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    data, out = work / "llamafactory", work / "out" / "llamafactory"
    if not data.is_dir():
        data.mkdir()
        rows = pq.read_table(work / "prepared" / "train.parquet")
        prompts = pc.binary_join_element_wise(rows["head"], rows["body"], rows["cue"], "")
        pq.write_table(
            pa.table({"prompt": prompts, "response": rows["target"]}), data / "rows.parquet"
        )
        columns = {"prompt": "prompt", "response": "response"}
        info = {"rows": {"file_name": "rows.parquet", "columns": columns}}
        (data / "dataset_info.json").write_text(json.dumps(info))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [python, str(Path(__file__).with_name("llamafactory_rows.py"))]
    command += [str(data), str(work / "tokenizer"), str(out)]
    found = _last_line(command, {"HF_DATASETS_CACHE": str(out / "hf")})
    return {**found, "wall": found["seconds"]}


VARIANTS: dict[str, Callable[[Path, Path, Path], None]] = {
    "limit": limit,
    "ours": ours,
    "ours, again": ours,
    "datasets.map": datasets_map,
}


def run_variant(name: str, work: Path) -> None:
    """One variant in this process; prints seconds and the peak memory, of all its processes."""
    before = time.perf_counter()
    out = work / "out" / name.split(",")[0]
    out.mkdir(parents=True, exist_ok=True)
    VARIANTS[name](work / "prepared", work / "tokenizer", out)
    seconds = time.perf_counter() - before
    own, children = (
        resource.getrusage(who).ru_maxrss / 1e6
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    found = {"seconds": seconds, "own_gb": own, "child_gb": children}
    sys.stdout.write(f"\n{json.dumps(found)}\n")


def measure(name: str, work: Path) -> dict[str, float]:
    """A new process for every variant, so that imports and warm caches count for all alike."""
    if not name.endswith("again"):
        shutil.rmtree(work / "out" / name.split(",")[0], ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.encode", "--work", str(work), "--variant", name]
    before = time.perf_counter()
    found = _last_line(command, {})
    return {**found, "wall": time.perf_counter() - before}


def _last_line(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def same_rows(work: Path) -> str:
    """Whether all variants gave the same ids and masks."""
    from datasets import Dataset

    places = {
        "limit": lambda out: Dataset.from_file(str(out / "train.arrow")),
        "ours": lambda out: Dataset.from_file(str(out / "encoded" / "train.arrow")),
        "datasets.map": lambda out: Dataset.load_from_disk(str(out / "saved")),
    }
    made = {
        name: read(work / "out" / name)
        for name, read in places.items()
        if (work / "out" / name).is_dir()
    }
    first, *others = made.values()
    for other in others:
        for start in range(0, len(first), 50_000):
            pick = slice(start, start + 50_000)
            if first[pick]["input_ids"] != other[pick]["input_ids"] or list(
                map(list, first[pick]["loss_mask"])
            ) != list(map(list, other[pick]["loss_mask"])):
                return f"rows from {start} on DIFFER"
    return f"ids and masks of {', '.join(made)} are the same"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cut", choices=("han", "letters"), default="han")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--llamafactory", metavar="PYTHON", help="that of its environment")
    parser.add_argument("--work", type=Path, help="keep files here (default: a temporary folder)")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        run_variant(options.variant, options.work)
        return
    with tempfile.TemporaryDirectory() as temporary:
        compare(options.work or Path(temporary), options)


def compare(work: Path, options: argparse.Namespace) -> None:
    if not (work / "prepared").is_dir():
        (work / "prepared").mkdir(parents=True)
        write_prepared(work / "prepared", options.rows)
        write_tokenizer(work / "prepared", options.cut, work / "tokenizer")
    runs = {name: partial(measure, name, work) for name in options.only}
    if options.llamafactory:
        runs["LLaMA-Factory"] = partial(llamafactory, options.llamafactory, work)
    best: dict[str, dict[str, float]] = {}
    for _ in range(options.rounds):
        for name, run in runs.items():
            found = run()
            if name not in best or found["wall"] < best[name]["wall"]:
                best[name] = found
            sys.stderr.write(f"{name:14} {found['wall']:7.2f} s\n")
    sys.stdout.write("\n".join(table(best, options)) + f"\n\n{same_rows(work)}\n")


def table(best: dict[str, dict[str, float]], options: argparse.Namespace) -> Iterator[str]:
    rows, base = options.rows, best.get("limit", next(iter(best.values())))
    yield f"{rows:,} rows, best of {options.rounds}, tokenizer cut: {options.cut}\n"
    yield f"| {'variant':14} | seconds |  rows/s | × limit | GB, parent | GB, largest worker |"
    yield f"|{'-' * 16}|--------:|--------:|--------:|-----------:|-------------------:|"
    for name, found in best.items():
        yield (
            f"| {name:14} | {found['wall']:7.2f} | {rows / found['wall']:7,.0f} "
            f"| {base['wall'] / found['wall']:7.2f} | {found['own_gb']:10.2f} "
            f"| {found['child_gb']:18.2f} |"
        )


if __name__ == "__main__":
    main()
