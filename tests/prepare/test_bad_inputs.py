"""Files that no format should ever read whole, each through `check` or the stage, as a user would.

The readers' own tests hold the details; here every kind of bad file meets every format.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glmops.errors import GlmopsError, InputError
from glmops.prepare import FORMATS, read
from glmops.prepare.check import check
from glmops.prepare.stage import prepare
from glmops.prepare.start import start_recipe
from glmops.recipe import Prepare

ROOT = Path(__file__).parents[2]
MAPPED = {"columns": {"title": "title", "category": "label"}, "template": "headline-category"}
CSV = {"columns": {"title": 1, "category": 2}, "template": "headline-category"}
# Format → a good row, with @ where a test puts something into its text.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "toutiao": ("{n}_!_103_!_news_sports_!_第{n}场@_!_", {}),
    "adgen": ('{"content": "类型#裤{n}@", "summary": "好"}', {}),
    "alpaca": ('{"instruction": "问{n}@", "output": "答"}', {}),
    "paper": ("{n},题{n}@,人,文,k,1", {}),
    "context-target": ('{"context": "问{n}@", "target": "[\\"一\\"]"}', {}),
    "conversations": (
        '{"messages": [{"role": "user", "content": "问{n}@"}, '
        '{"role": "assistant", "content": "答"}]}',
        {},
    ),
    "table": ('{"title": "{n}@", "label": "好"}', MAPPED),
}
HEADER = "uuid,title,author,abstract,keywords,label\n"


def put(path: Path, format: str, count: int = 30, **texts: str) -> Path:
    """A file of good rows; ``texts`` maps r + a row's number to what is put into it."""
    made = [
        ROWS[format][0].replace("{n}", str(n)).replace("@", texts.get(f"r{n}", ""))
        for n in range(count)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((HEADER if format == "paper" else "") + "\n".join(made) + "\n")
    return path


def name_of(format: str) -> str:
    return "rows.txt" if format == "toutiao" else "rows.csv" if format == "paper" else "rows.jsonl"


def run(root: Path, format: str, **changes: Any) -> dict[str, Any]:
    (root / "out").mkdir(exist_ok=True)
    values: dict[str, Any] = {
        "format": format,
        "tasks": ["classification"],
        "split": {"dev": 0.1, "test": 0.2, "seed": 1},
        "max_refused": {"rows": 10**6, "share": 1.0},
        **changes,
    }
    out, work = root / "out", root / "work"
    return prepare(root / "data", Prepare(**values), root=root, folder=out, work=work)


@pytest.mark.parametrize("format", ROWS)
def test_the_good_rows_of_these_tests_are_good(format: str, tmp_path: Path) -> None:
    found = check(put(tmp_path / name_of(format), format), format, **ROWS[format][1])
    assert (found["rows"], found["refused"]) == (30, 0)


@pytest.mark.parametrize("format", ROWS)
def test_a_nul_byte_refuses_its_row_alone(format: str, tmp_path: Path) -> None:
    path = put(tmp_path / name_of(format), format, r7="\0")
    records, (refusal,) = read(path, format, **ROWS[format][1])
    assert len(records) == 29
    assert refusal.line == 8 + (format == "paper")
    assert "U+0000" in refusal.reason or "control character" in refusal.reason.lower()


@pytest.mark.parametrize("format", ROWS)
def test_invalid_utf_8_in_mid_file_refuses_its_row_alone(format: str, tmp_path: Path) -> None:
    path = put(tmp_path / name_of(format), format, count=60, r40="中文MARK中文")
    path.write_bytes(path.read_bytes().replace(b"MARK", b"\xff\xfe"))
    records, (refusal,) = read(path, format, **ROWS[format][1])
    assert len(records) == 59
    assert refusal.line == 41 + (format == "paper")
    assert "byte" in refusal.reason


@pytest.mark.parametrize("format", ROWS)
def test_a_directory_where_a_file_should_be_is_an_error_or_read_as_a_folder(
    format: str, tmp_path: Path
) -> None:
    inner = tmp_path / "raw" / name_of(format)
    inner.mkdir(parents=True)
    settings = ROWS[format][1]
    for path in (tmp_path / "raw", inner):
        with pytest.raises(InputError, match="file in this folder"):
            read(path, format, **settings)
    put(inner / name_of(format), format)
    records, refusals = read(tmp_path / "raw", format, **settings)
    assert (len(records), refusals) == (30, [])


def test_a_pipe_in_a_raw_folder_is_never_waited_for(tmp_path: Path) -> None:
    put(tmp_path / "raw" / "rows.jsonl", "adgen")
    os.mkfifo(tmp_path / "raw" / "more.jsonl")
    with pytest.raises(InputError, match=r"more\.jsonl"):
        read(tmp_path / "raw", "adgen")


@pytest.mark.parametrize("format", ["paper", "table"])
def test_a_quote_that_never_closes_costs_a_csv_one_row_or_all_by_name(
    format: str, tmp_path: Path
) -> None:
    lines = [f"{n},标题{n},a,b,k,1" if format == "paper" else f"标题{n},好" for n in range(50)]
    lines[20] = '"' + lines[20]
    path = tmp_path / "rows.csv"
    path.write_text((HEADER if format == "paper" else "") + "\n".join(lines) + "\n")
    records, refusals = read(path, format, **(CSV if format == "table" else {}))
    assert len(records) + len(refusals) == 50
    assert [refusal.line for refusal in refusals] == [21 + (format == "paper")]


@pytest.mark.parametrize("format", ["toutiao", "paper", "conversations"])
def test_a_file_of_refused_rows_alone_is_an_error(format: str, tmp_path: Path) -> None:
    nuls = {f"r{n}": "\0" for n in range(30)}
    settings = ROWS[format][1]
    path = put(tmp_path / "data" / name_of(format), format, **nuls)
    found = check(path, format, **settings)
    assert (found["accepted"], found["refused"], len(found["refusals"])) == (0, 30, 30)
    with pytest.raises(InputError, match="no usable row is left"):
        run(tmp_path, format, **settings)


@pytest.mark.parametrize("format", ["toutiao", "context-target"])
def test_one_class_alone_is_nothing_to_learn(format: str, tmp_path: Path) -> None:
    put(tmp_path / "data" / name_of(format), format, count=80)
    with pytest.raises(InputError, match="has the same label"):
        run(tmp_path, format, **ROWS[format][1])


@pytest.mark.parametrize(
    ("format", "label", "other"),
    [("toutiao", "103_!_news_sports", "107_!_news_car"), ("paper", "k,1", "k,0")],
)
def test_a_validation_set_that_is_a_copy_of_train_is_refused_row_by_row(
    format: str, label: str, other: str, tmp_path: Path
) -> None:
    ending = name_of(format).partition(".")[2]
    for name in ("train", "valid"):
        path = put(tmp_path / "data" / f"{name}.{ending}", format, count=80)
        path.write_text(path.read_text().replace(label, other, 1))
    sources = [
        {"format": format, "files": f"{name}.{ending}", **side}
        for name, side in (("train", {}), ("valid", {"side": "dev"}))
    ]
    limit = {"rows": 0, "share": 0.0}
    with pytest.raises(InputError) as caught:
        run(tmp_path, None, sources=sources, max_refused=limit)
    assert f"data/valid.{ending}:" in str(caught.value)
    assert "leak: this row belongs to dev, and the same text is in" in str(caught.value)


def test_no_format_reads_a_real_broken_file_whole(shared: Callable[[str], Path]) -> None:
    paths = sorted(path for path in shared("data/bad_inputs").iterdir() if path.is_file())
    assert len(paths) >= 6
    for path in paths:
        for format in FORMATS:
            if format == "table":
                continue
            try:
                _, refusals = read(path, format)
                named = [f"{each.file}:{each.line}: {each.reason}" for each in refusals]
            except GlmopsError as fault:
                named = [str(fault)]
            assert named, (path.name, format)
            assert all(each.startswith(str(path)) for each in named)


def test_a_broken_file_starts_no_recipe(shared: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    demo = (ROOT / "recipes" / "demo.yaml").read_text()
    (tmp_path / "recipes" / "demo.yaml").write_text(demo)
    (tmp_path / "params.yaml").write_text(json.dumps({"recipes": {}}))
    for path in sorted(shared("data/bad_inputs").iterdir()):
        for format in ("adgen", "toutiao", "alpaca", "paper"):
            with pytest.raises(InputError):
                start_recipe(tmp_path, "mine", format=format, raw=path)
    assert [path.name for path in (tmp_path / "recipes").iterdir()] == ["demo.yaml"]
