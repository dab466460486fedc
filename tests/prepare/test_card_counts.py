"""The small counts behind a card, each against a case worked by hand."""

from __future__ import annotations

import gzip
import unicodedata
from pathlib import Path

import polars as pl
import pytest

from glmops.prepare.card.concerns import share
from glmops.prepare.card.lengths import lengths_of
from glmops.prepare.card.reasons import by_reason
from glmops.prepare.card.scripts import CLASSES, LETTERS, count_scripts, named
from glmops.prepare.card.shown import cut, spread, visible
from glmops.prepare.raw.endings import Endings, endings_of
from glmops.prepare.raw.files import RawFile


def counted(*texts: str) -> tuple[dict[str, int], dict[str, int]]:
    characters, main = count_scripts(pl.Series(texts, dtype=pl.String))
    return named(characters, CLASSES), named(main, (*LETTERS, "none"))


def test_characters_belong_to_the_scripts_that_unicode_says() -> None:
    characters, _ = counted(
        "漢字々〇𠀀", "abcÄＺ", "ひらカナー", "한글", "Жب", "12１²", "，。!￥", " \u3000\n"
    )
    assert characters == {
        "han": 5, "latin": 5, "kana": 5, "hangul": 2,
        "other letters": 2, "digits": 4, "punctuation": 4, "space": 3,
    }  # fmt: skip
    assert counted("\u200b\x07")[0] == {"other": 2}


def test_a_text_belongs_to_the_script_with_the_most_letters() -> None:
    _, main = counted("中文ab", "中ab", "", "123", "ア中", "")
    # Two and two: the first of LETTERS, which is han; kana and han, one each: han again.
    assert main == {"han": 2, "latin": 1, "none": 3}


def test_no_text_at_all_counts_nothing() -> None:
    assert counted() == ({}, {})


def test_every_named_ideograph_and_kana_is_one() -> None:
    for start, end, wanted in ((0x3400, 0xA000, "han"), (0x3041, 0x30FB, "kana")):
        known = [chr(p) for p in range(start, end) if unicodedata.name(chr(p), "")]
        known = [c for c in known if unicodedata.category(c) == "Lo"]
        assert len(known) > 150
        assert counted("".join(known))[0] == {wanted: len(known)}


def test_percentiles_histogram_and_limits_by_hand() -> None:
    # 1, 2, … 100 characters in the prompt; three in the target, once 5,000.
    facts = pl.DataFrame(
        {"prompt_characters": range(1, 101), "target_characters": [3] * 99 + [5000]}
    )
    prompt, target = (lengths_of(facts)[part] for part in ("prompt", "target"))
    assert [prompt[name] for name in ("min", "p50", "p90", "p99", "max", "mean")] == [
        1, 50, 90, 99, 100, 50.5,
    ]  # fmt: skip
    assert prompt["over"] == {"64": 36}
    # 99 lengths in at most 40 bins: three characters each; the hundredth is behind them.
    assert prompt["histogram"] == {"start": 1, "width": 3, "rows": [3] * 33, "longer": 1}
    assert target["histogram"] == {"start": 3, "width": 1, "rows": [99], "longer": 1}
    assert [target[name] for name in ("p50", "p99", "max")] == [3, 3, 5000]
    assert set(target["over"].values()) == {1}
    assert lengths_of(facts.head(0)) == {}


def test_a_length_that_is_not_there_is_none() -> None:
    facts = pl.DataFrame({"prompt_characters": [None, 4], "target_characters": [1, 1]})
    assert lengths_of(facts)["prompt"]["min"] == 0


def test_reasons_that_differ_in_a_value_are_one_kind_and_few_keep_their_words() -> None:
    reasons = [
        *(f"'label {n}' is no label" for n in range(5)),
        "expected 5 fields, got 2",
        "expected 5 fields, got 2",
        "expected 5 fields, got 3",
        *(f"a text alike by 0.9{n} is in train (a.txt:{n})" for n in range(4)),
    ]
    frame = pl.DataFrame(
        {"file": "a.txt", "line": range(1, 13), "reason": reasons, "raw": "x"},
    )
    found = by_reason(frame)
    assert [(kind["rows"], kind["reason"], kind["line"]) for kind in found["kinds"]] == [
        (5, "'…' is no label", 1),
        (4, "a text alike by N.N is in train (FILE:LINE)", 9),
        (2, "expected 5 fields, got 2", 6),
        (1, "expected 5 fields, got 3", 8),
    ]
    assert found["kinds"][0]["first_reason"] == "'label 0' is no label"
    assert "first_reason" not in found["kinds"][2]


def test_kinds_beyond_the_thirtieth_are_counted_together() -> None:
    reasons = ["a" * n for n in range(1, 41)] + ["b"] * 5
    frame = pl.DataFrame({"file": "f", "line": range(45), "reason": reasons, "raw": ""})
    found = by_reason(frame)
    assert len(found["kinds"]) == 30
    assert sum(kind["rows"] for kind in found["kinds"]) + found["others"] == 45 == found["rows"]


def test_shares_are_never_nothing_or_all_by_rounding() -> None:
    assert [share(part, 100_000) for part in (0, 1, 50_000, 99_999, 100_000)] == [
        "0.0 %", "less than 0.1 %", "50.0 %", "more than 99.9 %", "100.0 %",
    ]  # fmt: skip


def test_texts_are_cut_by_characters_and_what_is_unseen_is_named() -> None:
    assert cut("长" * 400) == "长" * 400
    assert cut("长" * 402) == "长" * 400 + "… (2 more characters)"
    assert visible("a\x00b\ufeffc\n\td") == "a‹U+0000›b‹U+FEFF›c\n\td"


def test_examples_are_spread_from_the_first_to_the_last() -> None:
    assert spread(3, 5) == [0, 1, 2]
    assert spread(101, 5) == [0, 25, 50, 75, 100]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"a\nb\n", Endings(2, 0, mark=False, final=True)),
        (b"a\r\nb", Endings(2, 1, mark=False, final=False)),
        (b"\xef\xbb\xbfa\n", Endings(1, 0, mark=True, final=True)),
        # The pair is cut by the end of a megabyte.
        (b"x" * ((1 << 20) - 1) + b"\r\ny\r\n", Endings(2, 2, mark=False, final=True)),
    ],
)
def test_line_ends_are_counted_in_plain_and_packed_files(
    tmp_path: Path, data: bytes, wanted: Endings
) -> None:
    for name, held in (("plain", data), ("packed", gzip.compress(data))):
        (tmp_path / name).write_bytes(held)
        assert endings_of(RawFile(tmp_path / name, name)) == wanted
