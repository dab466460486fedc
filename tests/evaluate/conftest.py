"""A checkpoint small enough to make in a second, and rows for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmops.contract import contract_for
from glmops.records import Record, Task

LABELS = ("水果", "衣服", "酒店")


def record(index: int, task: Task, body: str, target: str) -> Record:
    name = f"r{index}"
    return Record(
        name, task, "Instruction: 回答。\nInput: ", body, "\nAnswer: ", target, name, "a", index
    )


def fact(subject: str) -> str:
    row = f'{{"subject": "{subject}", "predicate": "主演", "object": "周星驰"}}'
    return f"```json\n[{row}]\n```"


@pytest.fixture(scope="session")
def train() -> list[Record]:
    """酒店 and 水果 are equally common; 水果 sorts first, 酒店 stands first in the file."""
    labels = ("酒店", "水果", "衣服", "水果", "酒店")
    rows = [record(i, "classification", f"{x}很好", f'["{x}"]') for i, x in enumerate(labels, 1)]
    return [*rows, record(9, "triples", "喜剧之王由周星驰主演。", fact("喜剧之王"))]


@pytest.fixture(scope="session")
def rows() -> list[Record]:
    """Seven rows of both tasks, in turn, with bodies of very different length."""
    labels = ("水果", "衣服", "水果", "酒店")
    short = [
        record(20 + 2 * i, "classification", f"{x}不错" * (1 + i), f'["{x}"]')
        for i, x in enumerate(labels)
    ]
    long = [
        record(21 + 2 * i, "triples", "少林足球" * (9 - 4 * i), fact("少林足球")) for i in range(3)
    ]
    return sorted([*short, *long], key=lambda row: row.line)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, train: list[Record]) -> Path:
    """A random GLM of 20,000 weights whose stop token is likely enough to end some answers."""
    import torch

    from glmops.models.small import small_glm
    from glmops.models.tokenizers import train_tokenizer
    from glmops.recipe import Schedule, ScratchBase

    folder = tmp_path_factory.mktemp("evaluate") / "checkpoint"
    tokenizer = train_tokenizer([row.prompt + row.target for row in train], 320)
    schedule = Schedule(
        epochs=1, batch_size=1, learning_rate=1e-3, warmup_fraction=0, weight_decay=0
    )
    settings = ScratchBase(
        method="scratch",
        hidden_size=32,
        intermediate_size=64,
        layers=2,
        heads=2,
        kv_heads=1,
        schedule=schedule,
    )
    model = small_glm(settings, tokenizer, max_tokens=128, seed=4)
    with torch.no_grad():  # random weights of the usual size repeat one token for ever
        for weight in model.parameters():
            weight.mul_(12 if weight.dim() == 2 else 1)
        # Padding shares the stop token's row, which starts as zeros: it could never be written.
        stop = model.get_input_embeddings().weight[tokenizer.eos_token_id]
        stop.copy_(torch.randn(stop.shape, generator=torch.Generator().manual_seed(1)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    contract_for(["context-target"], "glm", max_prompt_tokens=96, max_answer_tokens=32).save(folder)
    return folder
