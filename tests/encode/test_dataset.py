from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import toy_model as toy
from glmops.contract import load_contract
from glmops.encode import dataset
from glmops.encode.dataset import deal, encode_dataset
from glmops.encode.plan import make_plan
from glmops.errors import InputError
from glmops.models.tokenizers import load_tokenizer
from glmops.records import Record
from glmops.storage import read_jsonl, sha256_tree

TRAIN, DEV = toy.TRAIN, toy.DEV
SMALL = {"train": "byte-bpe", "vocab_size": 300}
LONG = replace(toy.RECORDS[0], id="long", target="绿" * 40, line=99)


def _encode(
    folder: Path, train: Sequence[Record] = TRAIN, dev: Sequence[Record] = DEV, **settings: Any
) -> dict[str, Any]:
    """The metrics of encoding these rows to ``folder``."""
    with tempfile.TemporaryDirectory() as prepared:
        toy.write_prepared(Path(prepared), train, dev)
        return encode_dataset(
            Path(prepared), toy.encode_settings(**settings), root=folder, folder=folder
        ).metrics


def _stream(file: Path) -> dict[str, list[Any]]:
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_stream(source).read_all().to_pydict()


def test_the_folder_holds_what_train_reads(tmp_path: Path) -> None:
    _encode(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    streams = {"base.arrow", "train.arrow", "dev.arrow"}
    assert names == streams | {"tokenizer", "contract.json", "refused.jsonl"}
    assert load_contract(tmp_path / "out") == toy.contract()
    tokenizer = load_tokenizer(tmp_path / "out" / "tokenizer")
    train = _stream(tmp_path / "out" / "train.arrow")
    assert train["id"] == [row.id for row in TRAIN]
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in train["input_ids"]]
    assert texts == [row.prompt + row.target for row in TRAIN]
    dev = _stream(tmp_path / "out" / "dev.arrow")
    assert dev["id"] == [row.id for row in DEV]


def test_datasets_opens_the_streams_as_they_are(tmp_path: Path) -> None:
    from datasets import Dataset

    _encode(tmp_path / "out")
    assert len(Dataset.from_file(str(tmp_path / "out" / "train.arrow"))) == len(TRAIN)


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    _encode(tmp_path / "a")
    _encode(tmp_path / "b")
    assert sha256_tree(tmp_path / "a") == sha256_tree(tmp_path / "b")


def test_no_row_of_the_base_text_keeps_its_own_answer(tmp_path: Path) -> None:
    distinct = [replace(row, target=f'["{row.id}"]') for row in toy.TRAIN]
    _encode(tmp_path / "out", distinct)
    tokenizer = load_tokenizer(tmp_path / "out" / "tokenizer")
    base = _stream(tmp_path / "out" / "base.arrow")
    assert base["id"] == [row.id for row in distinct]
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in base["input_ids"]]
    pairs = list(zip(distinct, texts, strict=True))
    assert all(text.startswith(row.prompt) for row, text in pairs)
    dealt = [text.removeprefix(row.prompt) for row, text in pairs]
    assert all(answer != row.target for row, answer in zip(distinct, dealt, strict=True))
    assert sorted(dealt) == sorted(row.target for row in distinct)


def test_the_base_learns_every_token_and_the_tune_only_answers(tmp_path: Path) -> None:
    metrics = _encode(tmp_path / "out")
    base, train = (_stream(tmp_path / "out" / f"{name}.arrow") for name in ("base", "train"))
    assert all(all(mask) for mask in base["loss_mask"])
    assert not any(all(mask) for mask in train["loss_mask"])
    assert metrics["base"]["tokens"] == sum(len(ids) for ids in base["input_ids"])
    assert metrics["train"]["learnt-tokens"] == sum(sum(mask) for mask in train["loss_mask"])


def test_a_row_whose_answer_does_not_fit_is_left_out_counted_and_listed(tmp_path: Path) -> None:
    metrics = _encode(tmp_path / "out", [*TRAIN, LONG], tokenizer=SMALL)
    assert (metrics["train"]["rows"], metrics["train"]["refused"]) == (40, 1)
    for name in ("base", "train"):
        assert "long" not in _stream(tmp_path / "out" / f"{name}.arrow")["id"]
    [line] = read_jsonl(tmp_path / "out" / "refused.jsonl")
    assert (line["id"], line["split"], line["file"], line["line"]) == (
        "long",
        "train",
        "toy.jsonl",
        99,
    )
    assert line["reason"].startswith("the answer and its end have ")


def test_cut_prompts_are_counted(tmp_path: Path) -> None:
    long = replace(TRAIN[0], id="cut", body="草" * 300)
    metrics = _encode(tmp_path / "out", [*TRAIN, long])
    assert metrics["train"]["cut-prompts"] == 1
    assert metrics["train"]["refused"] == 0


def test_percentiles_are_lengths_that_occur(tmp_path: Path) -> None:
    metrics = _encode(tmp_path / "out")
    lengths = sorted(len(ids) for ids in _stream(tmp_path / "out" / "train.arrow")["input_ids"])
    # Nearest rank of 40 values: p50 is the 20th, p95 the 38th.
    expected = {"p50": lengths[19], "p95": lengths[37], "max": lengths[39]}
    assert metrics["train"]["row-tokens"] == expected


def test_an_empty_split_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.parquet: has no rows"):
        _encode(tmp_path / "out", train=[])
    with pytest.raises(InputError, match=r"dev split: no row is left to train on"):
        _encode(tmp_path / "out", dev=[])
    with pytest.raises(InputError, match=r"train split: .*\(the answer and its end have \d+"):
        _encode(tmp_path / "out", train=[LONG], tokenizer=SMALL)
    assert list(tmp_path.iterdir()) == []


def test_the_caller_hears_of_every_row(tmp_path: Path) -> None:
    heard: list[int] = []
    prepared = toy.write_prepared(tmp_path / "prepared")
    encode_dataset(
        prepared,
        toy.encode_settings(),
        root=tmp_path,
        folder=tmp_path / "out",
        on_rows=heard.append,
    )
    assert sum(heard) == len(TRAIN) + len(DEV)


def test_an_answer_goes_round_to_another_row() -> None:
    for rows in (2, 3, 50):
        giver = deal(rows).tolist()
        assert sorted(giver) == list(range(rows))
        assert all(row != given for row, given in enumerate(giver))
    assert deal(1).tolist() == [0]


def test_a_wrong_guess_about_the_tokenizer_costs_time_and_no_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _encode(tmp_path / "right")
    other = make_plan(toy.contract(), tmp_path / "right" / "tokenizer")
    wrong = replace(other, before=(7, 7), rules=other.rules.replace(r"\\p{Han}", r"\\p{Greek}"))
    assert wrong.rules != other.rules
    monkeypatch.setattr(dataset, "guess_plan", lambda contract, folder: wrong)
    _encode(tmp_path / "after")
    assert sha256_tree(tmp_path / "right") == sha256_tree(tmp_path / "after")
