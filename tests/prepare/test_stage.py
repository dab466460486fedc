"""The stage: counts add up, limits hold, a refused run leaves nothing, equal inputs equal bytes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from glmops.errors import InputError
from glmops.prepare.check import check
from glmops.prepare.stage import Prepared, prepare, write
from glmops.recipe import MaxRefused, Prepare, Split
from glmops.records import SPLITS, Record, Refusal, read_table
from glmops.storage import sha256_tree

pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

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
    return Prepare(**{**values, **changes})


def run(root: Path, lines: list[str], **changes: Any) -> Prepared:
    raw = root / "data" / "rows.jsonl"
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    kept = root / "work" / "quarantine.parquet"
    return prepare(raw, section(**changes), root=root, quarantine=kept)


def test_every_row_that_was_read_is_somewhere_and_counted(tmp_path: Path) -> None:
    lines = [row(number) for number in range(120)]
    lines[30:30] = [BROKEN, row(7), row(7)]
    lines.append(row(500, target="一句闲话。"))
    made = run(tmp_path, lines, max_refused=MaxRefused(rows=2, share=0.1))
    counts = made.metrics["rows"]
    # 120 rows, one broken and one of an undeclared task beside them, one row twice more.
    assert counts == {"read": 124, "accepted": 122, "refused": 2, "duplicates": 2}
    rows = [record for name in SPLITS for record in made.splits[name]]
    assert sorted(record.body for record in rows) == sorted(f"第{n}句。" for n in range(120))
    assert [(r.file, r.line) for r in made.quarantine] == [
        ("data/rows.jsonl", 31),
        ("data/rows.jsonl", 124),
    ]
    assert "row of task generation" in made.quarantine[1].reason


def test_the_metrics_say_what_the_tables_hold(tmp_path: Path) -> None:
    made = run(tmp_path, [row(number) for number in range(150)])
    write(made, tmp_path / "out")
    lengths = []
    for name in SPLITS:
        rows = read_table(tmp_path / "out" / f"{name}.parquet", Record)
        assert rows == made.splits[name]
        tasks, counts = Counter(r.task for r in rows), made.metrics["splits"][name]
        assert counts == {"rows": len(rows), "texts": len({r.group for r in rows}), **tasks}
        labels = Counter(json.loads(r.target)[0] for r in rows if r.task == "classification")
        assert made.metrics["labels"][name] == labels
        lengths += [len(r.prompt) for r in rows]
    assert made.metrics["characters"]["prompt"] == {
        "min": min(lengths),
        "median": statistics.median(lengths),
        "max": max(lengths),
    }
    assert read_table(tmp_path / "out" / "quarantine.parquet", Refusal) == []


@pytest.mark.parametrize(
    ("rows", "share", "passes"),
    [(3, 0.03, True), (2, 1.0, False), (100, 0.029, False), (0, 0.0, False)],
)
def test_both_limits_on_refused_rows_hold(
    tmp_path: Path, rows: int, share: float, passes: bool
) -> None:
    # 3 refused of 100 read.
    lines = [row(number) for number in range(97)] + [BROKEN] * 3
    limit = MaxRefused(rows=rows, share=share)
    if passes:
        assert len(run(tmp_path, lines, max_refused=limit).quarantine) == 3
    else:
        with pytest.raises(InputError, match="3 of 100 rows refused"):
            run(tmp_path, lines, max_refused=limit)


def test_too_many_refusals_name_the_first_five_and_keep_them_all(tmp_path: Path) -> None:
    lines = [row(number) for number in range(50)] + [BROKEN] * 7
    with pytest.raises(InputError) as caught:
        run(tmp_path, lines)
    message = str(caught.value)
    for line in range(51, 56):
        assert f"\n  data/rows.jsonl:{line}: the line is not JSON" in message
    assert "data/rows.jsonl:56" not in message
    assert f"and 2 more; all are in {tmp_path}/work/quarantine.parquet" in message
    kept = read_table(tmp_path / "work" / "quarantine.parquet", Refusal)
    assert [(r.line, r.raw) for r in kept] == [(line, BROKEN) for line in range(51, 58)]
    # Once the rows are mended, the old list goes.
    run(tmp_path, lines[:50])
    assert not (tmp_path / "work" / "quarantine.parquet").exists()


def test_a_file_of_refused_rows_only_is_an_error_even_when_all_may_be_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match="no usable row is left"):
        run(tmp_path, [BROKEN] * 3, max_refused=MaxRefused(rows=10, share=1.0))


def test_check_accepts_what_prepare_accepts(tmp_path: Path) -> None:
    empty_body = row(1).replace("第1句。", "")
    lines = [row(number) for number in range(100)] + [BROKEN, row(3), empty_body]
    made = run(tmp_path, lines, max_refused=MaxRefused(rows=9, share=1.0))
    found = check(tmp_path / "data" / "rows.jsonl", "context-target")
    counts = made.metrics["rows"]
    assert {key: found[key] for key in ("rows", "accepted", "refused", "duplicates")} == {
        "rows": counts["read"],
        **{key: counts[key] for key in ("accepted", "refused", "duplicates")},
    }
    assert found["rows"] == found["accepted"] + found["refused"] == 103
    assert [(r["line"], r["reason"]) for r in found["refusals"]] == [
        (r.line, r.reason) for r in made.quarantine
    ]
    # Of 0…99 every fourth is a triple row; the rest carry the label of their number modulo 3.
    assert found["tasks"] == {"triples": 25, "classification": 75}
    assert sum(found["labels"].values()) == 75
    assert json.loads(json.dumps(found)) == found


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
