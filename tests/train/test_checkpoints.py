from __future__ import annotations

import errno
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import toy_model as toy
import toy_runs
from glmops.errors import MachineError
from glmops.storage import read_json, sha256_file
from glmops.train.candidate import Data
from glmops.train.checkpoints import Series, read_finished, save_finished
from glmops.train.key import key_of


def _series(folder: Path, *, key: str = "k", keep: int = 2) -> Series:
    return Series(folder / "series", key, keep)


def _save(series: Series, name: str, text: str = "weights", **more: Any) -> None:
    def fill(folder: Path) -> None:
        (folder / "a.txt").write_text(text)
        (folder / "b.txt").write_text("b")

    series.save(name, fill, needed_bytes=1000, **more)


def _names(series: Series) -> list[str]:
    return sorted(path.name for path in series.folder.iterdir())


def _newest(series: Series) -> tuple[str | None, list[str]]:
    said: list[str] = []
    found = series.newest(said.append)
    return (found.name if found else None), said


def test_a_checkpoint_appears_whole_with_the_hash_of_every_file(tmp_path: Path) -> None:
    series = _series(tmp_path)
    _save(series, "step-1", needs=["best-1"])
    manifest = read_json(series.folder / "step-1" / "manifest.json")
    hashes = {name: sha256_file(series.folder / "step-1" / name) for name in ("a.txt", "b.txt")}
    assert manifest == {"key": "k", "needs": ["best-1"], "files": hashes}
    assert _names(series) == ["step-1"]


def test_the_last_ones_stay_and_the_best_that_they_need(tmp_path: Path) -> None:
    series = _series(tmp_path)
    _save(series, "best-1")
    for number in (1, 2, 3):
        _save(series, f"step-{number}", needs=["best-1"])
        series.prune()
    assert _names(series) == ["best-1", "step-2", "step-3"]
    for number in (4, 5):  # another best at 4, and it is the best at 5 too
        _save(series, "best-4")
        _save(series, f"step-{number}", needs=["best-4"])
        series.prune(also=["best-4"])
    assert _names(series) == ["best-4", "step-4", "step-5"]


def _cut(folder: Path) -> None:
    (folder / "a.txt").write_text("w")


def _bit(folder: Path) -> None:
    (folder / "a.txt").write_text("weightr")


def _file(folder: Path) -> None:
    (folder / "b.txt").unlink()


def _manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _half_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"key": "k", "files"')


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (_cut, "a.txt is damaged"),
        (_bit, "a.txt is damaged"),
        (_file, "b.txt is missing"),
        (_manifest, "its manifest cannot be read"),
        (_half_manifest, "its manifest cannot be read"),
    ],
)
def test_a_broken_checkpoint_falls_back_to_the_one_before_and_says_so(
    tmp_path: Path, damage: Callable[[Path], None], fault: str
) -> None:
    series = _series(tmp_path)
    _save(series, "step-1")
    _save(series, "step-2")
    damage(series.folder / "step-2")
    assert _newest(series) == (
        "step-1",
        [f"{series.folder / 'step-2'}: {fault}; it is passed over."],
    )
    assert _names(series) == ["step-1"]  # else it would count among the last ones


def test_a_checkpoint_whose_best_moment_is_damaged_is_passed_over(tmp_path: Path) -> None:
    series = _series(tmp_path)
    _save(series, "best-1")
    _save(series, "step-1", needs=["best-1"])
    _save(series, "best-2")
    _save(series, "step-2", needs=["best-2"])
    _cut(series.folder / "best-2")
    assert _newest(series)[0] == "step-1"
    shutil.rmtree(series.folder / "best-1")
    name, [line] = _newest(series)
    assert name is None
    assert "best-1 is missing, which it needs" in line


def test_checkpoints_of_other_inputs_are_removed(tmp_path: Path) -> None:
    _save(_series(tmp_path), "best-1")
    _save(_series(tmp_path), "step-1")
    other = _series(tmp_path, key="other")
    name, [line] = _newest(other)
    assert name is None
    assert "other settings, data or code made it" in line
    assert _names(other) == []


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    series = _series(tmp_path)
    _save(series, "step-1")
    for name in (".step-2.abc", ".gone-step-0"):
        (series.folder / name).mkdir()
        (series.folder / name / "a.txt").write_text("w")
    assert _newest(series) == ("step-1", [])
    assert _names(series) == ["step-1"]


@pytest.fixture
def full_disk() -> Any:
    """No file may grow beyond 10 kB. The kernel then refuses a write as a full disk does, with
    EFBIG in place of ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_says_how_much_is_needed_and_leaves_what_was_there(tmp_path: Path) -> None:
    series = _series(tmp_path)
    _save(series, "step-1")

    def tensors(folder: Path) -> None:
        save_file({"a": torch.zeros(5000)}, folder / "tensors.safetensors")

    def text(folder: Path) -> None:
        (folder / "big.txt").write_text("a" * 20_000)

    for fill in (tensors, text):
        with pytest.raises(MachineError) as caught:
            series.save("step-2", fill, needed_bytes=20_000)
        assert str(caught.value).startswith(f"{series.folder / 'step-2'}: the checkpoint could not")
        assert "File too large" in str(caught.value)
        assert "it needs 0.02 MB, and " in str(caught.value)
        assert "Make room there" in str(caught.value)
    assert _names(series) == ["step-1"]
    assert _newest(series) == ("step-1", [])


def test_every_fault_of_a_disk_is_one_of_the_machine(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MachineError, match="No space left on device"):
        _series(tmp_path).save("step-1", fill, needed_bytes=1)


def test_a_finished_folder_is_read_back_for_its_key_if_every_byte_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "weights").write_text("w")
    assert read_finished(folder, "k") is None
    save_finished(folder, "k", {"steps": 3})
    assert read_finished(folder, "k") == {"steps": 3}
    assert read_finished(folder, "other") is None
    (folder / "weights").write_text("x")
    assert read_finished(folder, "k") is None


def test_the_key_changes_with_what_changes_the_weights_and_with_nothing_else(
    data: Data, tmp_path: Path
) -> None:
    phase, settings = toy_runs.phase(data, tmp_path), toy.train_settings()
    key = key_of(phase, settings, 1)

    def of(processes: int = 1, **changes: Any) -> str:
        return key_of(phase, toy.train_settings(**changes), processes)

    assert of(export="adapter") == of(checkpoints={"every_steps": 7}) == key
    assert of(launch={"processes": 2}) == key
    # A global batch of 16 rows, twice: 2 processes, or 2 forwards.
    both = toy_runs.phase(data, tmp_path, accumulation=2)
    assert of(processes=2) == key_of(both, settings, 1) != key
    assert of(seed=2) != key
    assert of(precision="bfloat16") != key
    assert key_of(replace(phase, model_hash="x"), settings, 1) != key
    assert key_of(replace(phase, rows=data.dev), settings, 1) != key
    faster = toy_runs.phase(data, tmp_path, learning_rate=0.1)
    assert key_of(faster, settings, 1) != key


def test_a_moment_holds_trained_weights_and_two_values_for_each_and_no_frozen_one(
    data: Data, tmp_path: Path
) -> None:
    from glmops.train.loop import fit
    from glmops.train.methods import METHODS

    settings = toy.train_settings(checkpoints={"every_steps": 5})
    model = METHODS["lora"](toy_runs.fresh_model(), settings)
    fit(model, toy_runs.phase(data, tmp_path), settings)
    [step] = tmp_path.glob("checkpoints/*/step-*")
    tensors = load_file(step / "tensors-00000.safetensors")
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    kinds = ("weight", "exp_avg", "exp_avg_sq", "step")
    assert set(tensors) == {f"{kind}/{name}" for kind in kinds for name in trained}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(tensors[f"weight/{name}"], weight.data, rtol=0, atol=0)
