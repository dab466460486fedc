"""The stage: counts add up, limits hold, a refused run leaves nothing, equal inputs equal bytes."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from glmops.errors import InputError
from glmops.prepare.check import check
from glmops.prepare.stage import prepare
from glmops.recipe import MaxRefused, Prepare, Split, load_recipe
from glmops.records import SPLITS, Record, Refusal, read_table
from glmops.storage import sha256_tree

ROOT = Path(__file__).parents[2]
TRIPLE = '```json\n[{"predicate": "作者", "subject": "书", "object": "人"}]\n```'
BROKEN = '{"context": "一", '


def row(number: int, target: str | None = None) -> str:
    label = ("耳机", "咖啡", "雨伞")[number % 3]
    context = f"Instruction: 作答。\nInput: 问？\n\n第{number}句。\nAnswer: "
    content = {
        "context": context,
        "target": target or (TRIPLE if number % 4 == 0 else f'["{label}"]'),
    }
    return json.dumps(content, ensure_ascii=False)


def section(**changes: Any) -> Prepare:
    values: dict[str, Any] = {
        "format": "context-target",
        "tasks": ("classification", "triples"),
        "split": Split(dev=0.1, test=0.2, seed=5),
        "max_refused": MaxRefused(rows=0, share=0.0),
    }
    if "sources" in changes:
        del values["format"]
    return Prepare(**{**values, **changes})


def put(root: Path, lines: list[str], name: str = "rows.jsonl") -> None:
    path = root / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def prepared(root: Path, out: str = "out", **changes: Any) -> dict[str, Any]:
    """Prepare what is in root/data into root/OUT; returns the metrics."""
    (root / out).mkdir()
    return prepare(
        root / "data", section(**changes), root=root, folder=root / out, work=root / "work"
    )


def table(root: Path, name: str, out: str = "out") -> list[Record]:
    return read_table(root / out / f"{name}.parquet", Record)


def sides(root: Path, out: str = "out") -> dict[str, str]:
    return {record.id: name for name in SPLITS for record in table(root, name, out)}


def test_every_row_that_was_read_is_somewhere_and_counted(tmp_path: Path) -> None:
    lines = [row(number) for number in range(120)]
    lines[30:30] = [BROKEN, row(7), row(7)]
    lines.append(row(500, target="一句闲话。"))
    put(tmp_path, lines)
    metrics = prepared(tmp_path, max_refused=MaxRefused(rows=2, share=0.1))
    # 120 rows, one broken and one of an undeclared task beside them, one row twice more.
    assert metrics["rows"] == {"read": 124, "accepted": 122, "refused": 2, "duplicates": 2}
    rows = [record for name in SPLITS for record in table(tmp_path, name)]
    assert sorted(record.body for record in rows) == sorted(f"第{n}句。" for n in range(120))
    kept = read_table(tmp_path / "out" / "quarantine.parquet", Refusal)
    assert [(r.file, r.line, r.raw) for r in kept] == [
        ("data/rows.jsonl", 31, BROKEN),
        ("data/rows.jsonl", 124, lines[123]),
    ]
    assert "row of task generation" in kept[1].reason
    (source,) = metrics["sources"]
    assert {name: source[name] for name in ("read", "refused", "duplicates")} == {
        "read": 124,
        "refused": 2,
        "duplicates": 2,
    }
    assert sum(source[name] for name in SPLITS) == 120
    assert list(source["files"].values()) == [
        hashlib.sha256((tmp_path / "data" / "rows.jsonl").read_bytes()).hexdigest()
    ]
    assert metrics["files"] == {
        "data/rows.jsonl": {"encoding": "utf-8", "rows": 124, "duplicates": 2}
    }


def test_the_metrics_say_what_the_tables_hold(tmp_path: Path) -> None:
    put(tmp_path, [row(number) for number in range(150)])
    metrics = prepared(tmp_path)
    lengths = []
    for name in SPLITS:
        rows = table(tmp_path, name)
        assert [r.line for r in rows] == sorted(r.line for r in rows)
        assert {(r.template, r.source) for r in rows} == {("context-target", 0)}
        tasks, counts = Counter(r.task for r in rows), metrics["splits"][name]
        assert counts == {"rows": len(rows), "texts": len({r.group for r in rows}), **tasks}
        labels = Counter(json.loads(r.target)[0] for r in rows if r.task == "classification")
        assert metrics["labels"][name] == labels
        lengths += [len(r.prompt) for r in rows]
    assert metrics["characters"]["prompt"] == {
        "min": min(lengths),
        "median": statistics.median(lengths),
        "max": max(lengths),
    }
    assert metrics["stratification"]["degrees_of_freedom"] == 4  # (3 labels - 1) (3 sides - 1)
    assert read_table(tmp_path / "out" / "quarantine.parquet", Refusal) == []
    assert (tmp_path / "work" / "data_docs" / "index.html").is_file()
    assert not (tmp_path / "work" / "texts").exists()


@pytest.mark.parametrize(
    ("rows", "share", "passes"),
    [(3, 0.03, True), (2, 1.0, False), (100, 0.029, False), (0, 0.0, False)],
)
def test_both_limits_on_refused_rows_hold(
    tmp_path: Path, rows: int, share: float, passes: bool
) -> None:
    # 3 refused of 100 read, all of them by the gate.
    put(tmp_path, [row(n) for n in range(97)] + [row(n, target="一句") for n in range(97, 100)])
    limit = MaxRefused(rows=rows, share=share)
    if passes:
        assert prepared(tmp_path, max_refused=limit)["rows"]["refused"] == 3
    else:
        with pytest.raises(InputError, match="3 of 100 rows refused"):
            prepared(tmp_path, max_refused=limit)


def test_too_many_refusals_name_the_first_five_and_keep_them_all(tmp_path: Path) -> None:
    lines = [row(number) for number in range(50)] + [BROKEN] * 7
    put(tmp_path, lines)
    with pytest.raises(InputError) as caught:
        prepared(tmp_path)
    message = str(caught.value)
    for line in range(51, 56):
        assert f"\n  data/rows.jsonl:{line}: the line is not JSON" in message
    assert "data/rows.jsonl:56" not in message
    assert f"and 2 more; all are in {tmp_path}/work/quarantine.parquet" in message
    kept = read_table(tmp_path / "work" / "quarantine.parquet", Refusal)
    assert [(r.line, r.raw) for r in kept] == [(line, BROKEN) for line in range(51, 58)]
    # Once the rows are mended, the old list goes.
    put(tmp_path, lines[:50])
    prepared(tmp_path, out="again")
    assert not (tmp_path / "work" / "quarantine.parquet").exists()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (BROKEN, "no usable row is left"),
        (row(0).replace("第0句。", ""), "no usable row is left"),
        (row(0, target="一句"), "the rows are only of generation"),
    ],
    ids=["reader", "gate", "task"],
)
def test_a_file_of_refused_rows_only_is_an_error_even_when_all_may_be_refused(
    tmp_path: Path, bad: str, said: str
) -> None:
    put(tmp_path, [bad] * 3)
    with pytest.raises(InputError, match=said):
        prepared(tmp_path, tasks=("triples",), max_refused=MaxRefused(rows=10, share=1.0))


def test_check_accepts_what_prepare_accepts(tmp_path: Path) -> None:
    empty_body = row(1).replace("第1句。", "")
    put(tmp_path, [row(number) for number in range(100)] + [BROKEN, row(3), empty_body])
    metrics = prepared(tmp_path, max_refused=MaxRefused(rows=9, share=1.0))
    found = check(tmp_path / "data" / "rows.jsonl", "context-target")
    for key, number in metrics["rows"].items():
        assert found["rows" if key == "read" else key] == number
    # Refused: the broken row and the one without a text.
    assert (found["rows"], found["accepted"], found["refused"]) == (103, 101, 2)
    kept = read_table(tmp_path / "out" / "quarantine.parquet", Refusal)
    assert [r["line"] for r in found["refusals"]] == [r.line for r in kept] == [101, 103]
    # Of 0…99 every fourth is a triple row; the rest carry the label of their number modulo 3.
    assert found["tasks"] == {"triples": 25, "classification": 75}
    assert sum(found["labels"].values()) == 75
    assert json.loads(json.dumps(found)) == found


def test_one_per_cent_of_new_rows_leaves_every_old_row_on_its_side(tmp_path: Path) -> None:
    common = "这是一段足够长的文字，前后两次投递里只差一个字，所以它们几乎一样："
    texts = [f"第{n}句。" if n % 10 else f"{common * 2}{chr(0x4E00 + n)}" for n in range(700)]

    def line(number: int, text: str) -> str:
        return row(number).replace(f"第{number}句。", text)

    lines = [line(number, text) for number, text in enumerate(texts)]
    new = [line(701 + n, f"{common * 2}{chr(0x4E00 + 900 + n)}") for n in range(7)]
    loose = MaxRefused(rows=200, share=1.0)
    put(tmp_path, lines)
    before = prepared(tmp_path, max_refused=loose)
    put(tmp_path, [*lines, *new])
    after = prepared(tmp_path, out="more", max_refused=loose)
    assert before["leaks"]["refused"] > 5  # so that leaks have a chance to push rows about
    assert sides(tmp_path).items() <= sides(tmp_path, "more").items()
    assert after["rows"]["read"] == 707


def test_weights_repeat_and_thin_out_train_alone(tmp_path: Path) -> None:
    put(tmp_path, [row(number) for number in range(100)], "a.jsonl")
    put(tmp_path, [row(number) for number in range(1000, 1200)], "b.jsonl")
    files = [{"format": "context-target", "files": f"{name}.jsonl"} for name in "ab"]
    plain = prepared(tmp_path, sources=files)
    weights = [{**files[0], "weight": 2.0}, {**files[1], "weight": 0.5}]
    weighted = prepared(tmp_path, out="weighted", sources=weights)
    once = Counter(record.id for record in table(tmp_path, "train") if record.source == 0)
    twice = Counter(
        record.id for record in table(tmp_path, "train", "weighted") if record.source == 0
    )
    assert twice == dict.fromkeys(once, 2)
    kept = [r for r in table(tmp_path, "train", "weighted") if r.source == 1]
    assert 0.3 < len(kept) / plain["sources"][1]["train"] < 0.7
    for name in ("dev", "test"):
        assert table(tmp_path, name) == table(tmp_path, name, "weighted")
    assert weighted["splits"]["train"]["rows"] == len(table(tmp_path, "train", "weighted"))
    assert [source["train"] for source in weighted["sources"]] == [2 * len(once), len(kept)]
    assert weighted["rows"] == plain["rows"]


def test_a_copy_of_a_file_is_dropped_and_shows_in_the_metrics(tmp_path: Path) -> None:
    lines = [row(number) for number in range(120)]
    put(tmp_path, lines, "train.jsonl")
    put(tmp_path, lines[:20], "valid.jsonl")
    metrics = prepared(tmp_path)
    assert metrics["files"]["data/valid.jsonl"]["duplicates"] == 20
    assert metrics["rows"]["duplicates"] == 20
    assert {r.file for name in SPLITS for r in table(tmp_path, name)} == {"data/train.jsonl"}


def test_a_published_dev_set_that_is_a_copy_of_train_is_refused(tmp_path: Path) -> None:
    lines = [row(number) for number in range(60)]
    put(tmp_path, lines, "train.jsonl")
    put(tmp_path, lines[:20], "valid.jsonl")
    files = {"train.jsonl": "train", "valid.jsonl": "dev"}
    sources = [{"format": "context-target", "files": f, "side": s} for f, s in files.items()]
    with pytest.raises(InputError) as caught:
        prepared(tmp_path, sources=sources)
    said = "leak: this row belongs to dev, and the same text is in train (data/train.jsonl:1)"
    assert "20 of 80 rows refused" in str(caught.value)
    assert f"data/valid.jsonl:1: {said}" in str(caught.value)


def test_the_demo_is_prepared_as_it_was_before_the_gate_grew(tmp_path: Path) -> None:
    made = load_recipe(ROOT, "demo").prepare
    raw = ROOT / "data" / "samples" / "mixed"
    prepare(raw, made, root=ROOT, folder=tmp_path, work=tmp_path / "work")
    digest = hashlib.sha256()
    for name in SPLITS:
        rows = read_table(tmp_path / f"{name}.parquet", Record)
        digest.update(f"{name} {len(rows)}\n".encode())
        for record in rows:
            values = astuple(record)[:9]  # without template and source, which are new
            digest.update(("\0".join(map(str, values)) + "\n").encode())
    # Computed in this way from what the code of commit fbcec08 prepared.
    assert digest.hexdigest() == "2c2051dba31e186079331a1d593a6be408202681fb5a87799bd2e92740fdf991"


def test_what_a_killed_stage_left_is_in_nobodys_way(tmp_path: Path) -> None:
    put(tmp_path, [row(number) for number in range(120)])
    left = tmp_path / "work" / "texts" / "000000.arrow"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of a batch")
    prepared(tmp_path)
    assert len(sides(tmp_path)) == 120


def test_several_formats_become_one_set(tmp_path: Path) -> None:
    put(tmp_path, [row(number) for number in range(60)], "mixed/a.jsonl")
    heads = [f"6{n:04}_!_103_!_news_sports_!_球赛第{n}场_!_球" for n in range(60)]
    cars = [f"7{n:04}_!_107_!_news_car_!_新车第{n}款_!_" for n in range(60)]
    path = tmp_path / "data" / "news.txt.gz"
    path.write_bytes(gzip.compress("\n".join([*heads, *cars]).encode()))
    sources = [
        {"format": "toutiao", "files": "*.txt.gz"},
        {"format": "context-target", "files": "mixed/*.jsonl"},
    ]
    metrics = prepared(tmp_path, sources=sources)
    assert [source["read"] for source in metrics["sources"]] == [120, 60]
    rows = [record for name in SPLITS for record in table(tmp_path, name)]
    assert Counter((r.source, r.template) for r in rows) == {
        (0, "headline-category"): 120,
        (1, "context-target"): 60,
    }
    assert sum(counts["news_car"] for counts in metrics["labels"].values()) == 60


def project(root: Path, lines: list[str]) -> Path:
    (root / "recipes").mkdir(parents=True)
    (root / "recipes" / "demo.yaml").write_bytes((ROOT / "recipes" / "demo.yaml").read_bytes())
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "params.yaml").write_text("recipes:\n  demo: {raw: data/rows.jsonl}\n")
    (root / "data").mkdir()
    (root / "data" / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return root


def process(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.prepare", "demo"],
        cwd=root, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_equal_rows_give_equal_bytes_in_another_place_and_process(tmp_path: Path) -> None:
    lines = [row(number) for number in range(200)]
    made = []
    for seed in ("1", "2"):
        root = project(tmp_path / seed, lines)
        done = process(root, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
        assert "200 rows read, 0 refused, 0 repeated" in done.stdout
        made.append(sha256_tree(root / "data" / "prepared") | sha256_tree(root / "reports"))
    assert made[0] == made[1]
    assert set(made[0]) >= {f"demo/{name}.parquet" for name in (*SPLITS, "quarantine")}
    assert "demo/prepare/data_docs/index.html" in made[0]


def test_a_refused_stage_exits_2_and_leaves_no_outputs(tmp_path: Path) -> None:
    root = project(tmp_path / "project", [row(1), BROKEN])
    done = process(root)
    assert done.returncode == 2
    assert "data/rows.jsonl:2: the line is not JSON" in done.stderr
    assert done.stdout == ""
    assert list((root / "data" / "prepared").iterdir()) == []
    assert not (root / "reports").exists()
    kept = read_table(
        root / ".glmops" / "work" / "prepare" / "demo" / "quarantine.parquet", Refusal
    )
    assert [refusal.line for refusal in kept] == [2]
