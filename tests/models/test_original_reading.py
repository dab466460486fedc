"""Damaged, incomplete and hostile original checkpoints: one clear error each, nothing written.

Everything here is refused by `load` and by `glmops import-model` alike.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import toy_original as toy
from glmops.errors import InputError
from glmops.models import load
from glmops.models.original.importing import import_model

FIRST, SECOND = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
INDEX = "pytorch_model.bin.index.json"
BIAS = "transformer.encoder.layers.0.self_attention.query_key_value.bias"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy.small(tmp_path / "original")


def refuse(folder: Path, message: str) -> None:
    """Both doors refuse ``folder`` with ``message``, and leave no trace beside it."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(InputError, match=message):
        load(folder)
    with pytest.raises(InputError, match=message):
        import_model(folder, folder.parent / "native")
    assert sorted(folder.parent.rglob("*")) == before


def edit(folder: Path, change: Callable[[dict[str, Tensor]], object], shard: str = FIRST) -> None:
    """Change the tensors of one shard, and the index with them."""
    tensors = torch.load(folder / shard, weights_only=True)
    change(tensors)
    torch.save(tensors, folder / shard)
    index = json.loads((folder / INDEX).read_text())
    kept = {name: file for name, file in index["weight_map"].items() if file != shard}
    index["weight_map"] = kept | dict.fromkeys(tensors, shard)
    (folder / INDEX).write_text(json.dumps(index))


class Code:
    """Pickled, this is a command: unpickling it would make the file ``ran``."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self._place}'",)


@pytest.mark.parametrize("old_pickle", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_a_pickle_with_code_in_it_is_refused_and_its_code_never_runs(
    alone: bool, old_pickle: bool, folder: Path
) -> None:
    tensors: dict[str, object] = torch.load(folder / FIRST, weights_only=True)
    ran = folder.parent / "ran"
    content = Code(ran) if alone else {**tensors, "extra": Code(ran)}
    torch.save(content, folder / FIRST, _use_new_zipfile_serialization=not old_pickle)
    refuse(folder, rf"{FIRST}: holds more than tensors.*code in a checkpoint is never run.*system")
    assert not ran.exists()
    torch.load(folder / FIRST, weights_only=False)  # the trap is a real one
    assert ran.exists()


@pytest.mark.parametrize("keep", [0, 1, 300, -1])
@pytest.mark.parametrize("old_pickle", [False, True])
def test_a_weight_file_that_was_cut_short_is_refused(
    keep: int, old_pickle: bool, folder: Path
) -> None:
    tensors = torch.load(folder / SECOND, weights_only=True)
    torch.save(tensors, folder / SECOND, _use_new_zipfile_serialization=not old_pickle)
    (folder / SECOND).write_bytes((folder / SECOND).read_bytes()[:keep])
    refuse(folder, rf"{SECOND}: (not a whole weight file|holds more than tensors, or is cut short)")


def test_a_safetensors_file_that_was_cut_short_is_refused(folder: Path) -> None:
    tensors = {}
    for shard in (FIRST, SECOND):
        tensors |= torch.load(folder / shard, weights_only=True)
        (folder / shard).unlink()
    (folder / INDEX).unlink()
    save_file(tensors, folder / "model.safetensors")
    load(folder)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refuse(folder, r"model\.safetensors: not a whole safetensors file")


def test_a_shard_that_only_the_index_knows_is_refused(folder: Path) -> None:
    (folder / SECOND).unlink()
    refuse(folder, rf"a shard that {INDEX} lists is absent, got '{SECOND}'")


def test_a_shard_that_the_index_does_not_know_is_refused(folder: Path) -> None:
    shutil.copy(folder / SECOND, folder / "pytorch_model-00003-of-00003.bin")
    refuse(folder, rf"a shard is missing from {INDEX}, got 'pytorch_model-00003-of-00003\.bin'")


def test_shards_without_an_index_are_refused(folder: Path) -> None:
    (folder / INDEX).unlink()
    refuse(folder, r"weights in several files, but no index that lists them")


def test_an_index_that_leads_out_of_the_folder_is_refused(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][BIAS] = "../other/pytorch_model.bin"
    (folder / INDEX).write_text(json.dumps(index))
    refuse(folder, r"weight_map must name files of this folder, got '\.\./other")


def test_a_tensor_that_is_not_where_the_index_says_is_refused(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][BIAS] = SECOND
    (folder / INDEX).write_text(json.dumps(index))
    refuse(folder, rf"{SECOND}: a tensor that the index lists is not in it, got '{BIAS}'")


def test_a_missing_tensor_is_refused_by_name(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.pop(BIAS))
    refuse(folder, rf"1 tensors are missing, got '{BIAS}'")


def test_an_unknown_tensor_is_refused_by_name(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"transformer.extra.weight": torch.ones(2)}))
    refuse(folder, r"1 tensors are unknown, got 'transformer\.extra\.weight'")


def test_a_tensor_that_is_there_twice_is_refused_by_name(folder: Path) -> None:
    bias = torch.load(folder / FIRST, weights_only=True)[BIAS]
    edit(folder, lambda tensors: tensors.update({BIAS: bias}), SECOND)
    refuse(folder, rf"{SECOND}: a tensor is in {FIRST} too, got '{BIAS}'")


def test_a_tensor_of_another_shape_is_refused_by_name(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({BIAS: tensors[BIAS][:-1].clone()}))
    refuse(folder, rf"{BIAS} must have the shape \(32,\), got \(31,\)")


def test_integers_without_quantization_bit_are_refused(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({BIAS: tensors[BIAS].to(torch.int8)}))
    refuse(folder, rf"{BIAS} is torch\.int8, which does not go with quantization_bit 0")


def test_quantization_bit_without_scales_is_refused(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "quantization_bit": 8}))
    refuse(folder, r"tensors are missing, got .*weight_scale'")


@pytest.mark.parametrize("value", [{"a": {"b": torch.ones(1)}}, {3: torch.ones(1)}, [1], "text"])
def test_a_file_that_is_no_table_of_tensors_is_refused(value: object, folder: Path) -> None:
    torch.save(value, folder / FIRST)
    refuse(folder, rf"{FIRST}: (not a table of tensors|an entry is not a named tensor)")


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    for file in folder.glob("pytorch_model*"):
        file.unlink()
    refuse(folder, r"no weights in it")


def test_a_prefix_beside_the_weights_is_sent_to_its_own_command(folder: Path) -> None:
    prefix = {"transformer.prefix_encoder.embedding.weight": torch.ones(2, 2)}
    edit(folder, lambda tensors: tensors.update(prefix))
    refuse(folder, r"the weights hold a P-tuning prefix.*glmops import-adapter")


def test_an_official_prefix_folder_is_no_model(shared: Callable[[str], Path]) -> None:
    for family in ("chatglm-v1", "chatglm2"):
        with pytest.raises(InputError, match=r"P-tuning checkpoint.*glmops import-adapter"):
            load(shared(f"reference/{family}/ptuning-no-projection"))


@pytest.mark.parametrize("family", ["chatglm-v1", "chatglm2"])
def test_a_tokenizer_of_another_family_is_refused(
    family: str, shared: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(shared(f"reference/{family}/model"), tmp_path / "original"))
    other = {"chatglm-v1": "v2", "chatglm2": "v1"}[family]
    for name in ("ice_text.model", "tokenizer.model", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    for file in shared(f"reference/tokenizer/{other}").glob("*token*"):
        shutil.copy(file, folder)
    for file in shared(f"reference/tokenizer/{other}").glob("ice_text.model"):
        shutil.copy(file, folder)
    refuse(folder, r"tokenizer")


def test_a_head_that_is_not_the_embedding_is_refused(
    shared: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(shared("reference/chatglm-v1/model"), tmp_path / "original"))
    for shard in folder.glob("*.bin"):
        tensors = torch.load(shard, weights_only=True)
        if "lm_head.weight" in tensors:
            tensors["lm_head.weight"][700, 3] += 1
        torch.save(tensors, shard)
    refuse(folder, r"lm_head\.weight must equal transformer\.word_embeddings\.weight")


@pytest.mark.filterwarnings("error")
def test_pickles_from_before_torch_1_6_give_the_same_model(folder: Path, tmp_path: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    old = toy.write(tmp_path / "old", settings, toy.later_tensors(settings), old_pickle=True)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        found, expected = (load(place, device="cpu")[0](ids).logits for place in (old, folder))
    assert torch.equal(found, expected)
