"""ROUGE and BLEU against the official script's own numbers, and against rouge-chinese itself."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from glmops.evaluate import score
from glmops.evaluate.texts import ALONE, NAMES, score_pairs, text_scores
from glmops.evaluate.words import words
from toy_texts import drawn


@pytest.fixture(scope="module")
def official(shared: Callable[[str], Path]) -> dict:
    """200 pairs scored by the official compute_metrics, or the error that it raised."""
    return json.loads(shared("reference/metrics/metrics.json").read_text(encoding="utf-8"))


def test_every_pair_scores_what_the_official_script_gives(official: dict) -> None:
    for pair in official["pairs"]:
        ours = text_scores(pair["prediction"], pair["label"])
        # Where the official script raises there is no number; we count the pair as 0.
        theirs = pair.get("scores", dict.fromkeys(NAMES, 0.0))
        assert ours == pytest.approx(theirs, abs=1e-9, rel=0), pair


def test_the_mean_is_the_official_one_once_the_pairs_it_refuses_are_left_out(
    official: dict,
) -> None:
    scored = [pair for pair in official["pairs"] if "scores" in pair]
    assert len(scored) == official["n_without_error"] < len(official["pairs"])
    for pairs, share in ((scored, 1.0), (official["pairs"], len(scored) / official["n_pairs"])):
        ours = score("generation", [p["prediction"] for p in pairs], [p["label"] for p in pairs])
        theirs = {name: value * share for name, value in official["averages"].items()}
        assert {name: ours[name] for name in NAMES} == pytest.approx(theirs, abs=1e-9, rel=0)


def test_the_words_are_those_of_the_official_script(official: dict) -> None:
    for pair in official["pairs"]:
        assert words(pair["prediction"]) == pair["prediction_words"]
        assert words(pair["label"]) == pair["label_words"]


@pytest.fixture(scope="module", autouse=True)
def _old_escapes() -> None:
    """Of jieba's and rouge-chinese's sources, which warn where no bytecode is cached."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba  # noqa: F401
        import rouge_chinese  # noqa: F401


def test_every_value_is_that_of_the_three_libraries_on_any_text() -> None:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from rouge_chinese import Rouge

    rouge, smooth = Rouge(), SmoothingFunction().method3
    compared = 0
    for a, b in drawn(600, seed=5):
        if a.strip() and b.strip():
            theirs = rouge.get_scores(" ".join(words(a)), " ".join(words(b)))[0]
            values = {name: score["f"] for name, score in theirs.items()}
            values["bleu-4"] = sentence_bleu([list(b)], list(a), smoothing_function=smooth)
            assert text_scores(a, b) == {name: round(values[name] * 100, 4) for name in NAMES}
            compared += 1
    assert compared > 500


def test_the_words_are_those_of_jieba_on_any_text() -> None:
    import jieba

    dictionary = jieba.Tokenizer()
    dictionary.FREQ, dictionary.total = dictionary.gen_pfdict(dictionary.get_dict_file())
    dictionary.initialized = True
    dice = random.Random(11)
    common = [word for word, count in dictionary.FREQ.items() if count > 2000]
    rare = [chr(dice.randrange(0x4E00, 0x9FD6)) for _ in range(300)]
    texts = [text for pair in drawn(200, seed=6) for text in pair]
    texts += ["".join(dice.choices(common, k=12)) for _ in range(400)]
    # Runs that no dictionary word joins are left to the HMM, where ties are common.
    texts += ["".join(dice.choices(rare, k=dice.randint(1, 15))) for _ in range(400)]
    for text in texts:
        assert words(text) == dictionary.lcut(text)


def test_the_scores_are_the_same_for_any_number_of_processes() -> None:
    pairs = list(drawn(30, seed=7)) * (ALONE // 30 + 1)
    sides = [a for a, _ in pairs], [b for _, b in pairs]
    told: list[int] = []
    assert score_pairs(*sides, processes=2, on_rows=told.append) == score_pairs(*sides)
    assert sum(told) == len(pairs) > ALONE


@pytest.mark.parametrize("blank", ["", " ", "\n", "\u3000\t"])
def test_a_blank_text_on_either_side_scores_zero(blank: str) -> None:
    for pair in ((blank, "好"), ("好", blank), (blank, blank)):
        assert text_scores(*pair) == dict.fromkeys(NAMES, 0.0)


def test_a_perfect_long_answer_scores_a_hundred_and_a_foreign_one_nothing() -> None:
    text = "今天天气很好，我们去公园散步。"
    # F carries a 1e-8 in its denominator, which the rounding to 4 decimals hides.
    assert text_scores(text, text) == dict.fromkeys(NAMES, 100.0)
    assert text_scores("xyz", text) == dict.fromkeys(NAMES, 0.0)


def test_segmenting_says_nothing_writes_nothing_and_bears_two_starts_at_once(
    tmp_path: Path,
) -> None:
    code = "from glmops.evaluate import score; score('generation', ['水果'], ['衣服'])"
    command = [sys.executable, "-W", "error", "-c", code]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    both = [
        subprocess.Popen(command, env=environment, stdout=-1, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    for process in both:
        said, _ = process.communicate(timeout=120)
        assert (process.returncode, said) == (0, b"")
    assert list(tmp_path.iterdir()) == []


def test_the_stage_folder_loads_none_of_its_libraries_on_import() -> None:
    heavy = "jieba nltk rouge_chinese torch transformers sklearn pyarrow"
    code = f"import sys, glmops.evaluate; print(*({{*'{heavy}'.split()}} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_bleu_of_one_equal_character_is_what_smoothing_three_gives() -> None:
    # Precisions 1, 1/2, 1/4, 1/8 (the empty counts become 1/2^k): (1/64) ** (1/4) = 0.353553…
    expected = round(100 * math.exp(math.log(1 / 64) / 4), 4)
    assert text_scores("好", "好")["bleu-4"] == expected == 35.3553
