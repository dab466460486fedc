from __future__ import annotations

import csv
import io

import numpy as np

import toy_model as toy
from glmops.encode.lengths import Lengths, doubling, histogram_csv, measure, percentiles


def _lengths(
    prompts: list[int], rows: list[int], cut: list[int], turns: list[int] | None = None
) -> Lengths:
    parts = (prompts, rows, cut, turns or [0] * len(rows))
    return Lengths(*(np.array(each, dtype=np.int64) for each in parts))


def test_percentiles_are_lengths_that_occur() -> None:
    # Nearest rank of 40 values: p50 is the 20th, p95 the 38th.
    values = np.array(list(range(100, 140))[::-1])
    assert percentiles(values) == {"p50": 119, "p95": 137, "max": 139}
    assert percentiles(np.array([7])) == {"p50": 7, "p95": 7, "max": 7}
    assert percentiles(np.array([], dtype=np.int64)) == {}


def test_doubling_bins_hold_every_value_once() -> None:
    assert doubling(np.array([0, 1, 8, 9, 16, 17, 300])) == {
        "to-8": 3,
        "to-16": 2,
        "to-32": 1,
        "to-64": 0,
        "to-128": 0,
        "to-256": 0,
        "to-512": 1,
    }


def test_what_was_cut_and_what_did_not_fit_is_counted() -> None:
    lengths = _lengths([3, 5, 5], [5, 8, 9], [0, 12, 40], [2, 0, 3])
    measured = measure(lengths, {"answer": 2, "prompt": 1})
    assert (measured["rows"], measured["refused"]) == (3, 3)
    assert measured["refused-for"] == {"answer": 2, "prompt": 1}
    assert measured["cut-prompts"] == 2
    assert measured["cut-characters"] == {"p50": 12, "p95": 40, "max": 40}
    assert (measured["cut-histories"], measured["cut-turns"]) == (2, 5)
    assert measured["tokens"] == 22  # 5 + 8 + 9
    assert measured["learnt-tokens"] == 9  # 2 + 3 + 4
    assert measured["answer-tokens"] == {"p50": 3, "p95": 4, "max": 4}


def test_the_plot_counts_every_row_in_each_column_up_to_the_longest_allowed() -> None:
    contract = toy.contract(100, 28)  # 128 tokens in 64 bins: two a bin
    text = histogram_csv(_lengths([0, 1, 100], [2, 3, 128], [0, 0, 0]), contract)
    lines = list(csv.DictReader(io.StringIO(text)))
    assert list(lines[0]) == ["tokens", "prompt", "answer", "row"]
    assert [int(line["tokens"]) for line in lines] == list(range(2, 129, 2))
    for part in ("prompt", "answer", "row"):
        assert sum(int(line[part]) for line in lines) == 3
    assert (lines[0]["prompt"], lines[0]["row"], lines[-1]["row"]) == ("2", "1", "1")
