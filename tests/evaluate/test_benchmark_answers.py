"""The benchmark of answers runs, and both of its sides do the same. No time is asserted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import answers


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_both_sides_write_the_same_and_weigh_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["--size", "tiny", "--rows", "12", "--sample", "4", "--rounds", "1"]
    report = answers.main([*tiny, "--new-tokens", "6", "--batch-size", "3"])
    write, *by_class = report["results"]
    assert write["equal"] == "4 of 4 answers equal"
    tokens = [each["tokens"] for each in by_class]
    assert tokens == sorted(set(tokens))
    for classify in by_class:
        assert float(classify["equal"].split()[0]) < 1e-5
    assert "write" in capsys.readouterr().out


def test_every_row_writes_all_its_tokens() -> None:
    engine = answers.Torch(answers.build("tiny", "cpu", torch.float32), answers.Tokenizer())
    prompts, classes = answers.headlines(6, 4)
    written = answers.write_batched(engine, prompts, 5, 4)
    assert [len(text.split()) for text in written] == [5] * 6
    assert len(classes) == 15
    assert len(set(written)) > 1  # what is written depends on the prompt
