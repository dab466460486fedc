"""What follows from the runs of a bake-off: intervals, the frontier, the recommendation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from glmops.errors import InputError
from glmops.promote.bakeoff.choice import choose, differences, frontier
from glmops.promote.bakeoff.methods import Method, T, difference, method_of
from glmops.promote.bakeoff.page import render
from glmops.promote.bakeoff.result import result_of
from glmops.promote.bakeoff.shown import document
from glmops.promote.bakeoff.trials import Made, Trial, read_made
from glmops.promote.bakeoff.units import duration, size
from glmops.promote.bootstrap import columns, value_interval
from glmops.records import Score, write_table
from glmops.storage import Layout, write_json

ACCURACY, F1 = "classification/accuracy", "triples/f1"
TEST = {"rows": 4, "sha256": "a", "metrics": "b"}


def made(rows: Mapping[str, Sequence[float]], **costs: Any) -> Made:
    """Scores row by row, and what the run cost."""
    scores = [
        Score(str(number), *metric.split("/"), value, 1.0)  # type: ignore[arg-type]
        for metric, values in rows.items()
        for number, value in enumerate(values)
    ]
    known = {"seconds": 10.0, "peak_bytes": 10**9, "trainable": 5, "parameters": 9}
    return Made(columns=columns(scores), test=TEST, **{**known, "size_bytes": 7, **costs})


def trial(method: str, seed: int, what: Made | None, state: str = "passed") -> Trial:
    reasons = () if what else ("train: it broke. Mend it.",)
    return Trial(
        method, seed, (), state if what else "failed", reasons, f"{method}-{seed}", "d", what
    )


def method(
    name: str,
    share: float,
    *,
    first: int = 0,
    f1: float | None = None,
    state: str = "passed",
    **costs: Any,
) -> Method:
    """One seed, 400 rows, of which ``share`` are right: from the row ``first`` on, around."""
    rows = {ACCURACY: [float((number - first) % 400 < share * 400) for number in range(400)]}
    if f1 is not None:
        rows[F1] = [float(number < f1 * 400) for number in range(400)]
    return method_of(name, [trial(name, 1, made(rows, **costs), state)])


def chosen(methods: Sequence[Method], metrics: Sequence[str] = (ACCURACY,), cost: str = "seconds"):
    return choose(methods, differences(methods, metrics), metrics, cost)


# Intervals


def test_one_seed_has_the_interval_of_its_rows() -> None:
    one = method("lora", 0.7)
    quality = one.quality[ACCURACY]
    column = one.trials[0].made.columns[ACCURACY]  # type: ignore[union-attr]
    assert (quality.low, quality.high) == value_interval(column)
    assert quality.value == pytest.approx(0.7)


def test_seeds_widen_an_interval_by_students_t() -> None:
    """Rows that all say the same leave the seeds alone: 0.5, 0.6, 0.7 have the mean 0.6 and the
    standard deviation 0.1; t with 2 degrees of freedom is 4.303."""
    trials = [trial("lora", n, made({ACCURACY: [v] * 4})) for n, v in enumerate((0.5, 0.6, 0.7))]
    quality = method_of("lora", trials).quality[ACCURACY]
    half = 4.303 * 0.1 / 3**0.5
    assert (quality.low, quality.high) == pytest.approx((0.6 - half, 0.6 + half))
    assert quality.by_seed == {0: 0.5, 1: 0.6, 2: 0.7}


def test_an_interval_ends_where_the_metric_does() -> None:
    trials = [trial("lora", n, made({ACCURACY: [v] * 4})) for n, v in enumerate((0.9, 1.0))]
    assert method_of("lora", trials).quality[ACCURACY].high == 1.0
    trials = [trial("lora", n, made({F1: [v] * 4})) for n, v in enumerate((60.0, 99.0))]
    assert method_of("lora", trials).quality[F1].high == 100.0


def test_the_table_of_t_is_scipys() -> None:
    assert pytest.approx([stats.t.ppf(0.975, n + 1) for n in range(len(T))], abs=5e-4) == T


def test_a_difference_is_taken_seed_by_seed() -> None:
    """What both share from seed to seed is not between them: 0.5 and 0.7 against 0.4 and 0.6."""
    ours = [trial("full", n, made({ACCURACY: [v] * 4})) for n, v in enumerate((0.5, 0.7))]
    theirs = [trial("lora", n, made({ACCURACY: [v] * 4})) for n, v in enumerate((0.4, 0.6))]
    found = difference(method_of("full", ours), method_of("lora", theirs), ACCURACY)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.is_better
    assert not (-found).is_better


def test_a_seed_that_failed_in_one_method_is_left_out_of_the_difference() -> None:
    ours = method_of(
        "full", [trial("full", 1, made({ACCURACY: [0.5] * 4})), trial("full", 2, None)]
    )
    theirs = [trial("lora", n, made({ACCURACY: [v] * 4})) for n, v in ((1, 0.4), (2, 1.0))]
    found = difference(ours, method_of("lora", theirs), ACCURACY)
    assert found is not None
    assert (found.seeds, found.value) == (1, pytest.approx(0.1))
    alone = [trial("lora", 2, made({ACCURACY: [1.0] * 4}))]
    assert difference(ours, method_of("lora", alone), ACCURACY) is None


def test_the_interval_of_a_difference_covers_it() -> None:
    """100 simulated bake-offs of two equal methods, 3 seeds, 100 rows: rows are hard or easy for
    both, and seeds move each method. 95 % of the intervals are to hold 0; of an exact one fewer
    than 90 do once in 90 times."""
    random = np.random.default_rng(7)
    held = 0
    for _ in range(100):
        easy_N = random.normal(0.8, 0.7, 100)
        sides = []
        for name in ("full", "lora"):
            moves = random.normal(0, 0.15, 3)
            answers = [(easy_N + m + random.normal(0, 0.5, 100) > 0).astype(float) for m in moves]
            trials = [trial(name, n, made({ACCURACY: a.tolist()})) for n, a in enumerate(answers)]
            sides.append(method_of(name, trials))
        found = difference(sides[0], sides[1], ACCURACY)
        assert found is not None
        held += found.low <= 0 <= found.high
    assert held / 100 >= 0.90


# The choice


def test_of_methods_that_tie_the_cheaper_is_taken() -> None:
    # Other rows are wrong: 40 and 44 of 400, which is what chance does.
    some = [method("full", 0.90, seconds=50.0), method("lora", 0.89, first=200, seconds=30.0)]
    found = chosen(some)
    assert found.method == "lora"
    assert "full cannot be told from it" in found.sentence
    assert "30 s; full 50 s" in found.sentence


def test_cheap_is_what_the_user_says() -> None:
    some = [
        method("full", 0.9, seconds=5.0, peak_bytes=9 * 10**9, size_bytes=10**9),
        method("lora", 0.9, seconds=6.0, peak_bytes=2 * 10**9, size_bytes=2 * 10**9),
    ]
    picked = {cost: chosen(some, cost=cost).method for cost in ("seconds", "memory", "size")}
    assert picked == {"seconds": "full", "memory": "lora", "size": "full"}


def test_a_better_method_is_taken_at_any_price() -> None:
    found = chosen([method("lora", 0.6, seconds=1.0), method("full", 0.9, seconds=900.0)])
    assert found.method == "full"
    assert "better than lora in classification/accuracy by 0.3000" in found.sentence


def test_metrics_decide_in_their_order_and_what_is_given_up_is_said() -> None:
    some = [method("lora", 0.9, f1=0.3), method("full", 0.5, f1=0.8)]
    found = chosen(some, (ACCURACY, F1))
    assert found.method == "lora"
    assert "full is better in triples/f1 by 0.5000, which counts after" in found.sentence
    assert chosen(some, (F1, ACCURACY)).method == "full"


def test_a_method_that_the_gate_lets_pass_goes_before_one_that_it_refuses() -> None:
    some = [method("full", 0.9, state="refused"), method("lora", 0.5)]
    found = chosen(some)
    assert found.method == "lora"
    assert "the gate does not let full pass" in found.sentence
    refused = [method("full", 0.9, state="refused"), method("lora", 0.5, state="too few rows")]
    assert "lets none of the methods pass" in chosen(refused).sentence
    assert chosen(refused).method == "full"


def test_nothing_is_recommended_when_every_run_failed() -> None:
    found = result_of(
        "demo", [trial("lora", 1, None), trial("full", 1, None)], [ACCURACY], "seconds"
    )
    assert found.choice.method is None
    assert [each.method for each in found.failed] == ["lora", "full"]


def test_a_method_without_a_value_is_neither_chosen_nor_compared() -> None:
    """Accuracy of no row at all is 0 / 0."""
    empty = columns([Score("1", "classification", "accuracy", 0.0, 0.0)])
    trials = [
        trial("prefix", seed, replace(made({F1: [0.5]}), columns=empty, seconds=1.0))
        for seed in (1, 2)
    ]
    found = result_of("demo", [*trials, *method("lora", 0.5).trials], [ACCURACY], "seconds")
    assert found.choice.method == "lora"
    assert "not every metric that decides has a value with prefix" in found.choice.sentence
    assert frontier(found.methods, ACCURACY, "seconds") == ["lora"]
    document(found)
    alone = result_of("demo", trials, [ACCURACY], "seconds")
    assert alone.choice.method is None


def test_the_frontier_holds_what_nothing_beats_in_both() -> None:
    """By hand: full is best, prefix cheapest, lora between them; scratch is dearer than lora and no
    better, and twin is lora's equal in both."""
    points = {
        "full": (0.9, 50), "lora": (0.8, 30), "twin": (0.8, 30), "scratch": (0.8, 40),
        "prefix": (0.4, 10),
    }  # fmt: skip
    some = [method(name, share, seconds=float(s)) for name, (share, s) in points.items()]
    assert frontier(some, ACCURACY, "seconds") == ["full", "lora", "twin", "prefix"]


# The page


def test_what_a_run_said_is_text_and_figures_are_the_same_each_time(tmp_path: Path) -> None:
    broken = replace(trial("full", 1, None), reasons=("<script>alert(1)</script>",))
    some = [*method("lora", 0.5).trials, *method("prefix", 0.4).trials, broken]
    found = result_of("demo", some, [ACCURACY], "seconds")
    source = render(found, tmp_path, tmp_path / "reports")
    assert "<script" not in source
    assert "&lt;script&gt;alert(1)" in source
    assert source.count("<svg") == 2  # against time and against memory
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]+"', "", source)
    assert render(found, tmp_path, tmp_path / "reports") == source


# Reading


def test_runs_on_other_test_rows_are_not_compared() -> None:
    other = replace(made({ACCURACY: [1.0]}), test={**TEST, "rows": 5})
    trials = [trial("lora", 1, made({ACCURACY: [1.0]})), trial("full", 1, other)]
    with pytest.raises(
        InputError, match="full-1: its test rows or metrics are not those of lora-1"
    ):
        result_of("demo", trials, [ACCURACY], "seconds")


@pytest.mark.parametrize(
    ("seconds", "speed", "read"),
    [(20.0, 500, 20.0), (5.0, 500, 20.0), (0.0, 0, None), (4000.0, 3, 4000.0)],
    ids=["whole", "interrupted", "nothing left to do", "a speed cut to 3 of 2.5"],
)
def test_an_interrupted_training_is_read_with_its_whole_time(
    layout_with: Any, seconds: float, speed: int, read: float | None
) -> None:
    """10,000 tokens at 500 a second take 20 seconds, however many of them this process saw."""
    found = read_made(layout_with(seconds, speed), "lora")
    assert found.seconds == (None if read is None else pytest.approx(read))
    assert (found.peak_bytes, found.trainable, found.size_bytes) == (8, 3, 11)


@pytest.fixture
def layout_with(tmp_path: Path) -> Any:
    def write(seconds: float, speed: int) -> Layout:
        layout = Layout(tmp_path, "demo")
        layout.model.mkdir(parents=True)
        (layout.model / "weights").write_bytes(b"elevenbytes")
        numbers = {
            "seconds": seconds, "tokens_per_second": speed, "tokens": 10_000, "peak_bytes": 8,
            "parameters": {"trainable": 3, "total": 4},
        }  # fmt: skip
        write_json(layout.reports("train") / "metrics.json", {"lora": numbers})
        write_json(layout.reports("evaluate") / "scorecard.json", {"test": TEST})
        score = Score("1", "classification", "accuracy", 1.0, 1.0)
        write_table(layout.reports("evaluate") / "scores.parquet", [score], Score)
        return layout

    return write


def test_amounts_have_the_unit_that_fits() -> None:
    assert [size(n) for n in (None, 512, 1_700_000, 650_000_000)] == [
        "–",
        "512 B",
        "1.7 MB",
        "0.65 GB",
    ]
    assert [duration(s) for s in (None, 4.26, 46.0, 600.0, 9000.0)] == [
        "–", "4.3 s", "46 s", "10.0 min", "2.5 h",
    ]  # fmt: skip
