"""`glmops import-model`: what it writes, how it resumes, what it leaves alone."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import toy_original as toy
from glmops import __version__
from glmops.errors import InputError, IntegrityError, MachineError, RecipeError
from glmops.models import load
from glmops.models.original.importing import import_model
from glmops.storage import sha256_tree

SHARD = 11_000  # bytes: several shards of the toy's 30 kB


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return toy.small(tmp_path / "source")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def drafts(folder: Path) -> list[Path]:
    return list(folder.glob(".*"))


def test_the_target_holds_a_whole_native_checkpoint_and_its_history(
    source: Path, tmp_path: Path
) -> None:
    before, target = sha256_tree(source), tmp_path / "native"
    done = import_model(source, target, shard_bytes=SHARD)
    assert (done.kind, done.already, done.tokenizer) == ("chatglm2-6b", False, True)
    assert sha256_tree(source) == before
    manifest = json.loads((target / "import.json").read_text())
    assert {k: v["sha256"] for k, v in manifest["source"].items()} == before
    written = {k: v for k, v in sha256_tree(target).items() if k != "import.json"}
    assert {k: v["sha256"] for k, v in manifest["output"].items()} == written
    assert (manifest["kind"], manifest["dtype"]) == ("chatglm2-6b", "as stored")
    assert manifest["glmops"] == __version__
    assert (target / "MODEL_LICENSE").read_bytes() == (source / "MODEL_LICENSE").read_bytes()
    assert {"config.json", "generation_config.json", "tokenizer.json"} <= written.keys()
    assert not drafts(tmp_path)


def test_shards_are_those_of_transformers_and_open_with_its_own_loader(
    source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "native"
    import_model(source, target, shard_bytes=SHARD)
    index = json.loads((target / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in target.glob("*.safetensors"))
    count = len(files)
    assert count > 2
    assert files == [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    for file in files:
        with safe_open(target / file, framework="pt") as opened:
            names = sorted(opened.keys())
            size = sum(opened.get_tensor(name).nbytes for name in names)
            assert opened.metadata() == {"format": "pt"}
        assert names == sorted(name for name, place in index["weight_map"].items() if place == file)
        assert size <= SHARD or len(names) == 1
    tensors = weights(target)
    assert index["metadata"]["total_size"] == sum(each.nbytes for each in tensors.values())
    model, found = AutoModelForCausalLM.from_pretrained(target, output_loading_info=True)
    assert not any(found.values())
    assert model.state_dict().keys() == tensors.keys()


def test_a_small_checkpoint_is_one_file_without_an_index(source: Path, tmp_path: Path) -> None:
    import_model(source, tmp_path / "native")
    assert (tmp_path / "native" / "model.safetensors").is_file()
    assert not (tmp_path / "native" / "model.safetensors.index.json").exists()


def test_equal_inputs_give_equal_bytes(source: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(source, tmp_path / "elsewhere" / "copy"))
    import_model(source, tmp_path / "a", shard_bytes=SHARD)
    import_model(copy, tmp_path / "b", shard_bytes=SHARD)
    assert sha256_tree(tmp_path / "a") == sha256_tree(tmp_path / "b")


def test_each_tensor_keeps_its_dtype_unless_one_is_asked_for(
    shared: Callable[[str], Path], tmp_path: Path
) -> None:
    source = shared("reference/chatglm-v1/model")
    import_model(source, tmp_path / "mixed")
    stored = weights(tmp_path / "mixed")
    # ARCHITECTURE 1.1: all float16, but the LayerNorms float32.
    for name, tensor in stored.items():
        assert tensor.dtype == (torch.float32 if "layernorm" in name else torch.float16)
    assert "lm_head.weight" not in stored  # the embedding again
    for dtype in (torch.bfloat16, torch.float32):
        target = tmp_path / str(dtype)
        import_model(source, target, dtype=str(dtype).removeprefix("torch."))
        for name, tensor in weights(target).items():
            assert torch.equal(tensor, stored[name].to(dtype))
            assert tensor.dtype == dtype
        assert load(target, device="cpu")[0].dtype == dtype


def test_the_same_import_twice_is_nothing_to_do(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "native"
    import_model(source, target)
    before = {path: path.stat().st_mtime_ns for path in target.iterdir()}
    assert import_model(source, target).already
    assert {path: path.stat().st_mtime_ns for path in target.iterdir()} == before


def test_an_empty_folder_is_a_free_place(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "native").mkdir()
    assert not import_model(source, tmp_path / "native").already
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert not import_model(source, ".").already
    assert sha256_tree(tmp_path / "here") == sha256_tree(tmp_path / "native")


def test_another_dtype_or_checkpoint_never_replaces_an_import(source: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "native", toy.small(tmp_path / "other", seed=1)
    import_model(source, target)
    before = sha256_tree(target)
    with pytest.raises(InputError, match=r"dtype is 'as stored', got 'float32'"):
        import_model(source, target, dtype="float32")
    with pytest.raises(InputError, match=r"import of another checkpoint, got 'a different py"):
        import_model(other, target)
    assert sha256_tree(target) == before
    assert not drafts(tmp_path)


def test_a_target_that_holds_something_else_is_refused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "native"
    target.mkdir()
    (target / "thesis.txt").write_text("do not lose me")
    with pytest.raises(InputError, match=r"holds something else"):
        import_model(source, target)
    with pytest.raises(InputError, match=r"is a file"):
        import_model(source, target / "thesis.txt")
    for inside in (source, source / "native"):
        with pytest.raises(InputError, match=r"is the source, or inside it"):
            import_model(source, inside)
    assert [path.name for path in target.iterdir()] == ["thesis.txt"]
    assert not drafts(tmp_path)


def test_an_import_whose_bytes_were_changed_is_not_called_done(
    source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "native"
    import_model(source, target)
    content = bytearray((target / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (target / "model.safetensors").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"model\.safetensors: is not what the import wrote"):
        import_model(source, target)


def test_a_source_that_needs_no_import_or_is_unknown_is_refused(
    checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"not an original-format GLM.*needs no import"):
        import_model(checkpoint, tmp_path / "native")
    with pytest.raises(InputError, match=r"absent: no such folder"):
        import_model(tmp_path / "absent", tmp_path / "native")
    with pytest.raises(RecipeError, match=r"dtype: unknown name, got 'int8'"):
        import_model(checkpoint, tmp_path / "native", dtype="int8")


def test_a_full_disk_is_found_before_anything_is_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(MachineError, match=r"0\.05 GB are needed, got '0\.00 GB free'"):
        import_model(source, tmp_path / "native")
    assert not (tmp_path / "native").exists()


def test_two_imports_never_write_one_target(source: Path, tmp_path: Path) -> None:
    draft = tmp_path / ".native.importing"
    draft.mkdir()
    handle = os.open(draft, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # what the other process would hold
    try:
        with pytest.raises(MachineError, match=r"another import is writing it"):
            import_model(source, tmp_path / "native")
    finally:
        os.close(handle)
    import_model(source, tmp_path / "native")


class Stopped(Exception):
    """Raised by a test inside a report."""


def stop_at(phase: str, share: float) -> Callable[[str, int, int], None]:
    def on_step(what: str, done: int, total: int) -> None:
        if what.startswith(phase) and done >= share * total:
            raise Stopped

    return on_step


# Ends itself with SIGKILL where stop_at would have raised.
KILLED = """
import os, signal, sys
from glmops.models.original.importing import import_model
def on_step(what, done, total):
    if what.startswith(sys.argv[3]) and done >= float(sys.argv[4]) * total:
        os.kill(os.getpid(), signal.SIGKILL)
import_model(sys.argv[1], sys.argv[2], on_step=on_step, shard_bytes=int(sys.argv[5]))
"""


def test_an_import_killed_at_any_moment_goes_on_and_gives_the_same_bytes(
    source: Path, tmp_path: Path
) -> None:
    import_model(source, tmp_path / "straight", shard_bytes=SHARD)
    target, draft = tmp_path / "native", tmp_path / ".native.importing"
    whole: dict[str, int] = {}  # file → inode of the shards that earlier runs had finished
    # Between two shards, after the last value of the last one, and with all of them whole.
    for number, (phase, share) in enumerate([("writing", 0.6), ("writing", 1.0), ("finishing", 0)]):
        words = [sys.executable, "-c", KILLED, source, target, phase, share, SHARD]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
        assert done.returncode == -9, done.stderr
        assert not target.exists()
        now = {path.name: path.stat().st_ino for path in draft.glob("model-*.safetensors")}
        assert whole.items() <= now.items()  # kept, not written again
        assert len(now) > number
        whole = now
    import_model(source, target, shard_bytes=SHARD)
    assert sha256_tree(target) == sha256_tree(tmp_path / "straight")
    assert whole == {path.name: path.stat().st_ino for path in target.glob("model-*.safetensors")}
    assert not drafts(tmp_path)


def test_what_an_import_of_another_kind_left_behind_is_not_taken_over(
    source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "native"
    with pytest.raises(Stopped):
        import_model(source, target, on_step=stop_at("finishing", 0), shard_bytes=SHARD)
    assert drafts(tmp_path)
    import_model(source, target, dtype="bfloat16", shard_bytes=SHARD)
    import_model(source, tmp_path / "straight", dtype="bfloat16", shard_bytes=SHARD)
    assert sha256_tree(target) == sha256_tree(tmp_path / "straight")


def test_a_torn_shard_of_an_interrupted_import_is_written_again(
    source: Path, tmp_path: Path
) -> None:
    target, draft = tmp_path / "native", tmp_path / ".native.importing"
    with pytest.raises(Stopped):
        import_model(source, target, on_step=stop_at("finishing", 0), shard_bytes=SHARD)
    torn = sorted(draft.glob("*.safetensors"))[0]
    torn.write_bytes(bytes(torn.stat().st_size))
    import_model(source, target, shard_bytes=SHARD)
    import_model(source, tmp_path / "straight", shard_bytes=SHARD)
    assert sha256_tree(target) == sha256_tree(tmp_path / "straight")


# VmHWM, not getrusage: a child's ru_maxrss starts at what its parent had.
PEAK = """
import re, sys
from pathlib import Path
from glmops.models.original.importing import import_model
import_model(sys.argv[1], sys.argv[2], shard_bytes=8_000_000)
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_checkpoint(tmp_path: Path) -> None:
    peaks = []
    wide = {
        "hidden_size": 512,
        "ffn_hidden_size": 1024,
        "num_attention_heads": 8,
        "kv_channels": 64,
    }
    for layers in (2, 40):  # 9 and 170 MB, in one file
        settings: dict[str, Any] = {**toy.LATER, **wide, "num_layers": layers}
        folder = toy.write(tmp_path / f"{layers}", settings, toy.later_tensors(settings), shards=1)
        words = [sys.executable, "-c", PEAK, str(folder), str(tmp_path / f"native-{layers}")]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) * 1024)
    assert peaks[1] - peaks[0] < 40_000_000, peaks


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `glmops import-model …`; returns exit code, stdout and stderr."""
    from glmops.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["glmops", "import-model", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        return int(ended.value.code or 0), written.out, written.err

    return run


def test_the_command_says_what_it_did_and_its_exit_code_says_how_it_went(
    source: Path, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    target = tmp_path / "native"
    code, said, complaint = command(source, target, "--dtype", "bfloat16")
    assert (code, complaint) == (0, "")
    assert said.startswith("imported chatglm2-6b: 25 tensors")  # by hand: 11 a layer, and 3
    code, said, complaint = command(source, target, "--dtype", "bfloat16")
    assert (code, complaint) == (0, "")
    assert said.startswith("Nothing to do")
    code, said, complaint = command(source, target)
    assert (code, said) == (2, "")
    assert complaint.endswith("Give a target folder that does not exist yet.\n")
    assert command(source, tmp_path / "other", "--dtype", "int3")[0] == 2
    assert command(source)[0] == 2
    (target / "config.json").write_text("{}")
    assert command(source, target, "--dtype", "bfloat16")[0] == 1
    (source / "tokenizer.model").unlink()
    code, said, _ = command(source, tmp_path / "bare")
    assert code == 0
    assert "The source has no tokenizer" in said
