"""A tokenizer and a GLM small enough to build in a test, and rows for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from glmops.contract import Contract, contract_for
from glmops.models.tokenizers import train_tokenizer
from glmops.recipe import Encode, ScratchBase, Train
from glmops.records import Record, write_table
from glmops.templates import Prompt

HEAD = "Instruction: 读一读。\nInput: 是什么颜色？\n\n"
CUE = "\nAnswer: "
VOCABULARY = 400
COLOURS = {"草地": "绿", "天空": "蓝", "雪山": "白", "炭块": "黑"}


def record(number: int) -> Record:
    """Row ``number``: a sentence that names a thing, and the thing's colour as a JSON list."""
    thing = list(COLOURS)[number % len(COLOURS)]
    return Record(
        id=f"row-{number}",
        task="classification",
        head=HEAD,
        body=f"第{number}天我看见了{thing}。",
        cue=CUE,
        target=f'["{COLOURS[thing]}"]',
        group=str(number),
        file="toy.jsonl",
        line=number + 1,
        template="context-target",
    )


RECORDS = [record(number) for number in range(48)]
TRAIN, DEV = RECORDS[:40], RECORDS[40:]


def prompt(body: str) -> Prompt:
    return Prompt(HEAD, body, CUE)


def write_prepared(
    folder: Path, train: Sequence[Record] = TRAIN, dev: Sequence[Record] = DEV
) -> Path:
    """``folder``, with the files that the encode stage reads."""
    write_table(folder / "train.parquet", train, Record)
    write_table(folder / "dev.parquet", dev, Record)
    return folder


def encode_settings(**changes: Any) -> Encode:
    values = {
        "family": "glm",
        "tokenizer": {"train": "byte-bpe", "vocab_size": VOCABULARY},
        "max_prompt_tokens": 64,
        "max_answer_tokens": 16,
        "base_text": "shuffled-targets",
    }
    return Encode.model_validate({**values, **changes})


def contract(max_prompt_tokens: int = 64, max_answer_tokens: int = 16) -> Contract:
    return contract_for(
        ["context-target"],
        "glm",
        max_prompt_tokens=max_prompt_tokens,
        max_answer_tokens=max_answer_tokens,
    )


@cache
def tokenizer() -> Any:
    """Byte-level BPE of the toy rows. Made once; no test may change it."""
    return train_tokenizer([row.prompt + row.target for row in RECORDS], VOCABULARY)


def base_settings(**changes: Any) -> ScratchBase:
    values = {
        "method": "scratch",
        "hidden_size": 32,
        "intermediate_size": 48,
        "layers": 2,
        "heads": 2,
        "kv_heads": 1,
        "schedule": schedule(),
    }
    return ScratchBase.model_validate({**values, **changes})


def model(seed: int = 1) -> Any:
    """A GLM with weights so large that its greedy answers differ from prompt to prompt."""
    import torch

    from glmops.models.small import small_glm

    made = small_glm(base_settings(), tokenizer(), max_tokens=80, seed=seed)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(8)
    return made.eval()


def train_settings(**changes: Any) -> Train:
    """LoRA on the toy base, one epoch each: a second or two."""
    values = {
        "seed": 1,
        "threads": 1,
        "base": base_settings().model_dump(),
        "method": "lora",
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "down_proj"]},
        "schedule": schedule(),
        "export": "merged",
    }
    return Train.model_validate({**values, **changes})


def schedule(**changes: Any) -> dict[str, Any]:
    values = {
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 0.003,
        "warmup_fraction": 0.1,
        "weight_decay": 0.0,
    }
    return {**values, **changes}
