from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from glmops.errors import InputError
from glmops.evaluate import baselines, ngrams
from glmops.evaluate.answers import answer
from glmops.evaluate.baselines import (
    add_to_card,
    base_checkpoint,
    baseline_answers,
    baseline_scores,
)
from glmops.evaluate.scorecard import score_rows, scorecard
from glmops.evaluate.slices import length_range, slices_of
from glmops.records import Record, Slice, Task
from glmops.storage import write_json

TEXTS = [
    "苹果很甜",
    "香蕉  也甜",
    "手机屏幕碎了",
    "A phone\tBROKE",
    "苹果手机，苹果手机",
    "",
    "甜",
    "🍎𠮷甜",
]


def rows(task: Task, *pairs: tuple[str, str], head: str = "读。") -> list[Record]:
    return [
        Record(f"{task[0]}{n}", task, head, body, "\n答：", target, "g", "a.jsonl", n)
        for n, (body, target) in enumerate(pairs, 1)
    ]


def said(name: str, asked: list[Record], train: list[Record]) -> list[str]:
    return [each.answer for each in baseline_answers(name, asked, train)]


FRUIT = [("苹果很甜", '["水果"]'), ("香蕉也甜", '["水果"]'), ("葡萄酸甜", '["水果"]')]
PHONE = [("手机屏幕碎了", '["电脑"]'), ("电脑屏幕黑了", '["电脑"]')]
TRAIN = rows("classification", *PHONE, *FRUIT)


def vectorizer(texts: Sequence[str]) -> TfidfVectorizer:
    kind = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
    return kind.fit(texts)


def test_weights_are_those_of_scikit_learn() -> None:
    asked = ["苹果甜甜", "从未见过", "phone\n\nbroke 🍎"]
    theirs = vectorizer(TEXTS)
    known, taught = ngrams.learn(TEXTS)
    assert taught.shape[1] == len(theirs.vocabulary_)
    for mine, oracle in (
        (taught, theirs.transform(TEXTS)),
        (known.weigh(asked), theirs.transform(asked)),
    ):
        # Columns are in another order, so the rows are compared by their products.
        assert (mine @ mine.T).toarray() == pytest.approx((oracle @ oracle.T).toarray())
        weights = [sorted(row[row > 0]) for row in mine.toarray()]
        expected = [sorted(row[row > 0]) for row in oracle.toarray()]
        for one, other in zip(weights, expected, strict=True):
            assert one == pytest.approx(other)


def test_the_linear_baseline_answers_as_scikit_learns_svm_on_its_own_weights() -> None:
    random = np.random.default_rng(1)
    pools = {"a": "苹果香蕉甜", "b": "手机屏幕碎甜", "c": "足球比赛赢甜"}

    def make(count: int) -> list[tuple[str, str]]:
        labels = random.choice(list(pools), count)
        return [("".join(random.choice(list(pools[x]), 6)), f'["{x}"]') for x in labels]

    train, asked = rows("classification", *make(120)), rows("classification", *make(60))
    theirs = vectorizer([row.body for row in train])
    svm = LinearSVC(C=baselines.SOFTNESS, tol=1e-6, random_state=0)
    svm.fit(theirs.transform([row.body for row in train]), [row.target for row in train])
    expected = svm.predict(theirs.transform([row.body for row in asked])).tolist()
    assert said("linear", asked, train) == expected


def test_the_majority_is_the_commonest_label_in_the_form_it_was_taught() -> None:
    asked = rows("classification", ("手机", '["电脑"]'), ("什么", '["水果"]'))
    assert said("majority", asked, TRAIN) == ['["水果"]', '["水果"]']
    tied = rows("classification", ("x", "b"), ("y", "a"), ("z", " b "), ("w", '["a"]'))
    assert said("majority", asked, tied) == ["a", "a"]  # of equally common ones the first in order


@pytest.mark.parametrize(
    "train",
    [
        rows("classification", ("苹果", "水果"), ("香蕉", "水果")),
        rows("classification", ("", "水果"), ("", "水果"), ("", "电脑")),
    ],
)
def test_with_nothing_to_tell_apart_the_linear_baseline_is_the_majority(train) -> None:
    assert said("linear", rows("classification", ("电脑", "电脑")), train) == ["水果"]


def test_an_unreadable_label_is_named_by_its_row() -> None:
    with pytest.raises(InputError, match=r"a\.jsonl:2: expected a label"):
        said("linear", TRAIN, rows("classification", ("x", "a"), ("y", "{broken")))


def test_the_nearest_row_answers_and_of_equal_ones_the_first() -> None:
    train = rows("generation", ("红色长裙", "一"), ("蓝色短裤", "二"), ("蓝色短裤", "三"))
    asked = rows("generation", ("蓝色的短裤", ""), ("红裙", ""), ("ABC", ""))
    # Of a text that shares no character with any row, all are equally near.
    assert said("nearest", asked, train) == ["二", "一", "一"]
    empty = rows("generation", ("", "空"))
    assert said("nearest", asked, empty) == ["空"] * 3


def test_the_nearest_rows_are_those_of_a_whole_table_of_cosines(monkeypatch) -> None:
    random = np.random.default_rng(2)
    bodies = ["".join(random.choice(list("天地玄黄宇宙洪荒日月"), 8)) for _ in range(90)]
    train = rows("generation", *[(body, str(n)) for n, body in enumerate(bodies[:60])])
    asked = rows("generation", *[(body, "") for body in bodies[60:]])
    theirs = vectorizer(bodies[:60])  # 60 rows: no n-gram is in more than 50 of them…
    counts = (theirs.transform(bodies[:60]) > 0).sum(axis=0)
    assert counts.max() <= ngrams.FEW_TEXTS  # …so that none is left out
    cosines = (theirs.transform(bodies[60:]) @ theirs.transform(bodies[:60]).T).toarray()
    expected = [str(place) for place in cosines.argmax(axis=1)]
    assert said("nearest", asked, train) == expected
    monkeypatch.setattr(baselines, "CELLS", 7 * 60)  # in parts of seven rows
    assert said("nearest", asked, train) == expected


def test_a_head_counts_only_where_heads_differ() -> None:
    one, other = ("相同", "甲"), ("相同", "乙")
    train = rows("generation", one, head="问红：") + rows("generation", other, head="问蓝：")
    assert said("nearest", rows("generation", ("相同", ""), head="问蓝："), train) == ["乙"]
    same = rows("generation", ("红", "甲"), ("蓝", "乙"), head="蓝蓝蓝：")
    assert said("nearest", rows("generation", ("红", ""), head="蓝蓝蓝："), same) == ["甲"]


def test_a_baseline_answers_the_tasks_that_it_fits_and_that_were_taught() -> None:
    asked = [*rows("keywords", ("x", "a")), *rows("classification", ("苹果", '["水果"]'))]
    assert [row.task for row in baseline_answers("linear", asked, TRAIN)] == ["classification"]
    assert baseline_answers("nearest", asked, TRAIN) == []


def test_baselines_are_scored_by_the_models_own_code() -> None:
    asked = rows("classification", ("手机屏", '["电脑"]'), ("甜", '["水果"]'), ("酸", '["电脑"]'))
    answers = {name: baseline_answers(name, asked, TRAIN) for name in ("majority", "linear")}
    scores = baseline_scores(answers, TRAIN)
    card = scorecard(answers["linear"], score_rows(answers["linear"], TRAIN))
    alone = json.loads(json.dumps(card))
    add_to_card(card, scores)
    found = card["classification"].pop("baselines")
    assert card == alone
    assert found["majority"]["accuracy"] == 1 / 3
    metrics = {key: alone["classification"][key] for key in found["linear"]}
    assert found["linear"] == metrics
    assert {row.baseline for row in scores} == {"majority", "linear"}


def test_the_untouched_base_answers_by_the_models_contract(
    checkpoint: Path, rows: list[Record], tmp_path: Path
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "dvc.yaml").write_text("")
    (tmp_path / "models").mkdir()
    base = tmp_path / "models" / "base"
    base.symlink_to(checkpoint)
    model = tmp_path / "models" / "demo"
    model.mkdir()
    contract = (checkpoint / "contract.json").read_bytes()
    (model / "contract.json").write_bytes(contract)
    write_json(model / "lineage.json", {"base": {"method": "pretrained", "path": "models/base"}})
    made = base_checkpoint(model, tmp_path / "scratch")
    assert made is not None
    assert (made / "contract.json").read_bytes() == contract
    asked = {"batch_size": 4, "max_new_tokens": 6}
    assert answer(made, rows, **asked) == answer(checkpoint, rows, **asked)

    write_json(model / "lineage.json", {"base": {"method": "scratch", "sha256": "0" * 64}})
    assert base_checkpoint(model, tmp_path / "none") is None
    write_json(model / "lineage.json", {"base": {"method": "pretrained", "path": "gone"}})
    with pytest.raises(InputError, match="its base is not in a project here"):
        base_checkpoint(model, tmp_path / "none")


@pytest.mark.parametrize(
    ("characters", "range_"),
    [(0, "1"), (1, "1"), (2, "2"), (3, "3-4"), (16, "9-16"), (17, "17-32"), (32, "17-32")],
)
def test_lengths_are_in_ranges_up_to_powers_of_two(characters: int, range_: str) -> None:
    assert length_range(characters) == range_


def test_a_row_is_in_a_slice_of_its_class_and_of_its_length() -> None:
    asked = [*rows("classification", ("苹果", '[" 水果 "]')), *rows("keywords", ("x" * 30, "a"))]
    assert list(slices_of(asked)) == [
        Slice("c1", "class", "水果"),
        Slice("c1", "length", "5-8"),
        Slice("k1", "length", "33-64"),
    ]
