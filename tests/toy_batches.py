"""Rows of random ids, files of them, and a small model of every architecture to read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

import toy_model as toy
from glmops.models.small import ARCHITECTURES
from glmops.models.tokenizers import special_ids
from glmops.train.batches import IGNORED, Batch
from glmops.train.rows import Row

SPECIAL = 16
"""Ids below this one are special tokens of the toy tokenizer; random rows are of those above."""


def model(architecture: str, *, wide: float = 6.0) -> Any:
    """In eval mode, with weights so wide that what a token sees decides what follows it."""
    own = architecture != "glm"
    settings = toy.base_settings(
        architecture=architecture, kv_heads=2 if own else 1, intermediate_size=128
    )
    made = ARCHITECTURES[architecture](settings, toy.tokenizer(), max_tokens=96, seed=3)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.dim() > 1:
                weight.mul_(wide)
    return made.eval()


def family(architecture: str) -> str:
    return "chatglm" if architecture == "chatglm" else "glm"


def rows(lengths: Sequence[int], *, learnt: int = 3, seed: int = 0) -> list[Row]:
    """Rows whose last ``learnt`` tokens are learnt, in the layout of ChatGLM-6B: which every other
    family reads as well."""
    draw = np.random.default_rng(seed)
    gmask, start = special_ids(("[gMASK]", "<sop>"), toy.tokenizer())
    made = []
    for number, length in enumerate(lengths):
        ids = draw.integers(SPECIAL, len(toy.tokenizer()), length).astype(np.int32)
        ids[-learnt - 2 : -learnt] = (gmask, start)
        made.append(Row(f"row-{number}", ids, np.arange(length) >= length - learnt, (length,)))
    return made


def pack(some: Sequence[Row]) -> Row:
    return Row(
        some[0].name,
        np.concatenate([row.input_ids for row in some]),
        np.concatenate([row.learnt for row in some]),
        tuple(len(row.input_ids) for row in some),
    )


def nats(model: Any, batch: Batch) -> torch.Tensor:
    """The loss of each learnt token of a batch, row by row: what ``summed_loss`` adds up."""
    batch = {**batch, "use_cache": batch.get("use_cache", False)}
    labels, _ = batch.pop("labels"), batch.pop("weights", None)
    chances = model(**batch).logits.double().log_softmax(-1)
    picked = -chances.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return picked[labels != IGNORED]


def nats_alone(model: Any, row: Row) -> torch.Tensor:
    """The oracle: one row by itself, no padding, all its logits, the textbook cross entropy."""
    chances = model(torch.from_numpy(row.input_ids).long()[None], use_cache=False).logits[0]
    chances = chances.double().log_softmax(-1)
    places = [place for place in range(1, len(row.input_ids)) if row.learnt[place]]
    return torch.stack([-chances[place - 1, int(row.input_ids[place])] for place in places])


def write(path: Path, batches: Sequence[Sequence[Row]], *, packed: bool = False) -> Path:
    """A file as encode writes it, one record batch after the other."""
    own = ("ids", pa.list_(pa.string())) if packed else ("id", pa.string())
    fields = [own, ("input_ids", pa.list_(pa.int32())), ("loss_mask", pa.list_(pa.int8()))]
    schema = pa.schema([*fields, ("segments", pa.list_(pa.int32()))] if packed else fields)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        for some in batches:
            columns = {
                "id": [row.name for row in some],
                "ids": [[f"{row.name}.{n}" for n in range(len(row.segments))] for row in some],
                "input_ids": [row.input_ids.tolist() for row in some],
                "loss_mask": [row.learnt.astype(int).tolist() for row in some],
                "segments": [list(row.segments) for row in some],
            }
            stream.write_batch(
                pa.record_batch([pa.array(columns[f.name], f.type) for f in schema], schema=schema)
            )
    return path
