"""All records of a recipe → the folder that ``train`` reads: tokenizer, contract, Arrow streams."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.contract import Contract
from glmops.encode.examples import Encoded, as_plain_text, encode_record
from glmops.errors import InputError
from glmops.models.tokenizers import special_ids, train_tokenizer
from glmops.records import Record
from glmops.storage import fresh_folder, write_jsonl
from glmops.templates import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Which answer goes to which row of the base text. Not a setting: no result is read off it.
_DEAL_SEED = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """One record that could not be encoded, and why."""

    record: Record
    split: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rows:
    """The encoded records of one split, with their ids, and those that were refused."""

    ids: list[str]
    encoded: list[Encoded]
    refused: list[Refused]


def encode_dataset(
    train: Sequence[Record],
    dev: Sequence[Record],
    contract: Contract,
    *,
    vocab_size: int,
    folder: Path,
    on_row: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write base, train and dev streams, tokenizer/, contract.json and refused.jsonl to ``folder``.

    The tokenizer is made from the train split alone. A record whose answer does not fit is left
    out, listed in refused.jsonl and counted in the metrics, which are returned.

    Args:
        on_row: Called after each record, ``len(train) + len(dev)`` times.
    Raises:
        InputError: A split is empty, or nothing of it could be encoded.
    """
    tokenizer = train_tokenizer((row.prompt + row.target for row in train), vocab_size)
    special_ids([*contract.before, *contract.between, contract.end, *contract.stop], tokenizer)
    train_rows = _encode_split(train, "train", contract, tokenizer, on_row)
    dev_rows = _encode_split(dev, "dev", contract, tokenizer, on_row)
    base_rows = deal_answers(train_rows.encoded)
    with fresh_folder(folder) as draft:
        _write_stream(draft / "base.arrow", train_rows.ids, base_rows)
        _write_stream(draft / "train.arrow", train_rows.ids, train_rows.encoded)
        _write_stream(draft / "dev.arrow", dev_rows.ids, dev_rows.encoded)
        tokenizer.save_pretrained(str(draft / "tokenizer"))
        contract.save(draft)
        refused = [*train_rows.refused, *dev_rows.refused]
        write_jsonl(draft / "refused.jsonl", [_refused_line(each) for each in refused])
    return {
        "vocabulary": len(tokenizer),
        "base": {"tokens": sum(len(row.input_ids) for row in base_rows)},
        "train": _measure(train_rows),
        "dev": _measure(dev_rows),
    }


def deal_answers(rows: Sequence[Encoded]) -> list[Encoded]:
    """Every prompt with the answer of another row: the base learns the words, not the tasks.

    The answers go round one shuffled circle, so that of two or more rows none keeps its own.
    """
    order = list(range(len(rows)))
    random.Random(_DEAL_SEED).shuffle(order)
    giver = {order[place]: order[place - 1] for place in range(len(order))}
    return [as_plain_text(row, rows[giver[index]]) for index, row in enumerate(rows)]


def _encode_split(
    rows: Sequence[Record],
    split: str,
    contract: Contract,
    tokenizer: PreTrainedTokenizerFast,
    on_row: Callable[[], None],
) -> Rows:
    result = Rows([], [], [])
    for row in rows:
        try:
            encoded = encode_record(
                _prompt(row), row.target, contract, tokenizer, f"{row.file}:{row.line}"
            )
        except InputError as error:  # counted and listed below, never dropped in silence
            result.refused.append(Refused(row, split, error.what))
        else:
            result.ids.append(row.id)
            result.encoded.append(encoded)
        on_row()
    if not result.ids:
        first = result.refused[0].reason if result.refused else "the split has no rows"
        raise InputError(
            f"{split} split",
            f"no row is left to train on ({first})",
            do="Give more rows, or raise encode.max_prompt_tokens and encode.max_answer_tokens.",
        )
    return result


def _prompt(row: Record) -> Prompt:
    return Prompt(row.head, row.body, row.cue)


def _refused_line(refused: Refused) -> dict[str, Any]:
    row = refused.record
    return {
        "id": row.id,
        "split": refused.split,
        "file": row.file,
        "line": row.line,
        "reason": refused.reason,
    }


def _write_stream(path: Path, ids: Sequence[str], rows: Sequence[Encoded]) -> None:
    """An Arrow *stream*: ``datasets.Dataset.from_file`` opens it as it is."""
    import pyarrow as pa

    table = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "input_ids": pa.array([row.input_ids for row in rows], pa.list_(pa.int32())),
            "loss_mask": pa.array([row.loss_mask for row in rows], pa.list_(pa.int8())),
        }
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


def _measure(rows: Rows) -> dict[str, Any]:
    lengths = [len(row.input_ids) for row in rows.encoded]
    answers = [sum(row.loss_mask) for row in rows.encoded]
    return {
        "rows": len(rows.encoded),
        "refused": len(rows.refused),
        "cut-prompts": sum(row.cut > 0 for row in rows.encoded),
        "tokens": sum(lengths),
        "learnt-tokens": sum(answers),
        "row-tokens": _percentiles(lengths),
        "answer-tokens": _percentiles(answers),
    }


def _percentiles(values: Sequence[int]) -> dict[str, int]:
    """Nearest-rank percentiles: each is a length that occurs."""
    ordered = sorted(values)

    def at(percent: int) -> int:
        return ordered[-(-percent * len(ordered) // 100) - 1]  # rank = percent of n, rounded up

    return {"p50": at(50), "p95": at(95), "max": ordered[-1]}
