"""Which strings are sent which way: nearly all of real text must go the quick one."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatglm_text import nasty
from glmops.models.tokenizers import load_tokenizer


@pytest.fixture(scope="module")
def found_in(shared: Callable[[str], Path]) -> Callable[[list[str]], Any]:
    tokenizer = load_tokenizer(shared("reference/tokenizer/v1"))
    return lambda texts: tokenizer.backend_tokenizer._risks.find(texts)


def test_each_text_is_found_by_its_own_index(found_in: Callable[[list[str]], Any]) -> None:
    texts = ["你好", "e\u0301", "", "a  b", "x\n", "\0", " a", "a ", "看看看", "……", "", "好"]
    found = found_in(texts)
    assert found.unsafe == {1, 5}
    assert found.lined == {4, 6, 7}
    assert found.spaced == {3}
    assert found.repetitive >= {8, 9}
    assert not {0, 2, 10, 11} & (found.unsafe | found.lined | found.spaced | found.repetitive)
    assert found_in([]) == (set(), set(), set(), set())


def test_a_batch_finds_what_its_texts_alone_find(found_in: Callable[[list[str]], Any]) -> None:
    texts = nasty(500, 2)
    together = found_in(texts)
    for index, text in enumerate(texts):
        alone = found_in([text])
        for field in ("unsafe", "lined", "spaced"):
            assert (index in getattr(together, field)) == bool(getattr(alone, field)), text


def test_mixed_widths_are_one_repetition(found_in: Callable[[list[str]], Any]) -> None:
    assert found_in(["！!！", "１1１", "ａaA", "ab"]).repetitive == {0, 1}


def test_one_real_headline_in_a_hundred_leaves_the_quick_way(
    found_in: Callable[[list[str]], Any], shared: Callable[[str], Path]
) -> None:
    file = shared("data/toutiao/toutiao_cat_data.dev.part.txt.gz")
    rows = gzip.decompress(file.read_bytes()).decode("utf-8").splitlines()
    titles = [row.split("_!_")[3] for row in rows if row.count("_!_") >= 4]
    found = found_in(titles)
    assert len(titles) > 5000
    assert len(found.unsafe) < len(titles) / 1000
    assert len(found.unsafe | found.lined | found.spaced) < len(titles) / 100
