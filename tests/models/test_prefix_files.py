"""A prefix on disk: what is stored comes back, and what does not fit changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import toy_prefix as toy
from glmops.errors import InputError
from glmops.models.adapters import with_adapter
from glmops.models.original.adapters import import_adapter
from glmops.models.original.recognise import recognise
from glmops.models.original.settings import native_config
from glmops.models.prefix import load_prefix, save_prefix
from glmops.models.prefix.files import CONFIG, WEIGHTS


def _logits(model: Any) -> torch.Tensor:
    [row] = toy.rows(model, (9,))
    return toy.logits(model, input_ids=torch.tensor([row]))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A saved base, so that it has an identity."""
    toy.small("glm").save_pretrained(str(tmp_path / "base"))
    return tmp_path / "base"


def _opened(folder: Path, **options: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(folder), **options).eval()


@pytest.fixture
def saved(base: Path, tmp_path: Path) -> Path:
    """A native prefix for ``base`` that a test may break."""
    return save_prefix(toy.attached(_opened(base), projection=True), tmp_path / "prefix")


@pytest.mark.parametrize("projection", [False, True])
@pytest.mark.parametrize("family", toy.FAMILIES)
def test_the_loss_after_training_is_that_of_the_stored_prefix(family, projection, tmp_path) -> None:
    model = toy.attached(toy.small(family), projection=projection, dropout=0.3).train()
    [row] = toy.rows(model, (9,))
    ids = torch.tensor([row])
    optimizer = torch.optim.AdamW(toy.encoder(model).parameters(), lr=0.02)
    for _ in range(3):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    with torch.no_grad():
        loss = model.eval()(input_ids=ids, labels=ids).loss
    save_prefix(model, tmp_path / "prefix")
    fresh = with_adapter(toy.small(family), tmp_path / "prefix").eval()
    with torch.no_grad():
        assert torch.equal(fresh(input_ids=ids, labels=ids).loss, loss)
    assert toy.encoder(fresh).dropout.p == 0.3
    # A prefix that is there already takes the values, so that its optimizer stays its own.
    other = toy.attached(toy.small(family), projection=projection, seed=9)
    kept = toy.encoder(other).embedding.weight
    load_prefix(other, tmp_path / "prefix")
    assert torch.equal(_logits(other), _logits(fresh))
    assert toy.encoder(other).embedding.weight is kept


def test_saving_leaves_other_files_alone_and_replaces_an_older_prefix(saved: Path, base) -> None:
    (saved / "contract.json").write_text("{}")
    model = toy.attached(_opened(base), length=7)
    assert save_prefix(model, saved) == saved
    assert {path.name for path in saved.iterdir()} == {"contract.json", CONFIG, WEIGHTS}
    assert torch.equal(_logits(with_adapter(_opened(base), saved)), _logits(model))
    assert json.loads((saved / CONFIG).read_text())["length"] == 7


def test_equal_prefixes_are_equal_bytes(base: Path, tmp_path: Path) -> None:
    folders = [save_prefix(toy.attached(_opened(base)), tmp_path / name) for name in ("a", "b")]
    for name in (CONFIG, WEIGHTS):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_a_model_without_a_prefix_has_none_to_save(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it has no prefix to save"):
        save_prefix(toy.small("glm"), tmp_path / "prefix")
    assert not (tmp_path / "prefix").exists()


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({**config, **changes}))

    return change


def _tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return rewrite


def _cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-50])


BROKEN = {
    "another family": (_config(model_type="llama"), r"model_type 'llama' does not fit .* 'glm'"),
    "more layers": (
        _config(layers=4),
        r"trans\.0\.weight is not of shape|embedding\.weight is not",
    ),
    "another length": (_config(length=6), r"embedding\.weight is not of shape \[6, 96\], got \[5,"),
    "no projection": (_config(projection=False), r"a tensor does not belong here, got 'trans\.0\."),
    "no length": (_config(length=0), r"prefix_config\.json length: not the configuration of a"),
    "a word for a number": (_config(layers="3"), r"layers: not the configuration of a prefix"),
    "an unknown key": (_config(speed=1), r"speed: not the configuration of a prefix"),
    "another dtype": (_config(dtype="int8"), r"dtype: not the configuration of a prefix"),
    "another base": (
        _config(base={"fingerprint": "0"}),
        r"was made for another base \(fingerprint",
    ),
    "cut short": (_cut, r"not a whole safetensors file"),
    "no tensors": (lambda folder: (folder / WEIGHTS).unlink(), rf"no {WEIGHTS} in it"),
    "no config": (lambda folder: (folder / CONFIG).unlink(), rf"no {CONFIG} in it"),
    "broken config": (lambda folder: (folder / CONFIG).write_text("{"), r"not JSON"),
    "a tensor missing": (
        _tensors(lambda stored: stored.pop("trans.2.bias")),
        r"a tensor is missing, got 'trans\.2\.bias'",
    ),
    "a tensor too many": (
        _tensors(lambda stored: stored.update({"lm_head.weight": torch.zeros(1)})),
        r"a tensor does not belong here, got 'lm_head\.weight'",
    ),
    "a wrong shape": (
        _tensors(lambda stored: stored.update({"trans.0.bias": torch.zeros(31)})),
        r"trans\.0\.bias is not of shape \[32\], got \[31\]",
    ),
    "no number": (
        _tensors(lambda stored: stored["trans.0.bias"].fill_(float("nan"))),
        r"trans\.0\.bias holds no usable numbers",
    ),
    "integers": (
        _tensors(lambda stored: stored.update({"trans.0.bias": torch.zeros(32).long()})),
        r"trans\.0\.bias holds no usable numbers",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_prefix_that_does_not_fit_is_refused_and_nothing_changes(fault, saved, base) -> None:
    break_it, message = BROKEN[fault]
    break_it(saved)
    model = _opened(base)
    names = [name for name, _ in model.named_parameters()]
    with pytest.raises(InputError, match=message):
        load_prefix(model, saved)
    assert [name for name, each in model.named_parameters() if each.requires_grad] == names
    assert model.config._attn_implementation == "sdpa"
    assert not model.model._forward_pre_hooks


def test_a_prefix_of_other_length_does_not_replace_the_one_on_a_model(saved, base) -> None:
    model = toy.attached(_opened(base), length=6, projection=True)
    before = toy.encoder(model).embedding.weight.clone()
    with pytest.raises(InputError, match="length 5 does not fit the prefix on the model, got 6"):
        load_prefix(model, saved)
    assert torch.equal(toy.encoder(model).embedding.weight, before)


def test_a_base_of_the_same_shape_but_other_weights_is_another_base(saved, tmp_path) -> None:
    toy.small("glm", seed=6).save_pretrained(str(tmp_path / "other"))
    with pytest.raises(InputError, match="was made for another base"):
        load_prefix(_opened(tmp_path / "other"), saved)


def test_a_base_is_the_same_however_it_is_cut_into_files(saved, base, tmp_path) -> None:
    _opened(base).save_pretrained(str(tmp_path / "shards"), max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    load_prefix(_opened(tmp_path / "shards"), saved)
    load_prefix(_opened(base, dtype=torch.bfloat16), saved)


@pytest.mark.parametrize("kind", ["ptuning-no-projection", "ptuning-projection"])
@pytest.mark.parametrize("family", toy.FOLDERS)
@pytest.mark.parametrize("native", [False, True], ids=["original base", "native base"])
def test_official_files_come_back_as_they_were(family, kind, native, shared, tmp_path) -> None:
    source = shared(f"{toy.FOLDERS[family]}/{kind}")
    base = original = shared(f"{toy.FOLDERS[family]}/model")
    if native:
        base = tmp_path / "base"
        toy.original(original).save_pretrained(str(base))
    import_adapter(source, tmp_path / "native", base=base)
    assert json.loads((tmp_path / "native" / CONFIG).read_text())["base"]
    import_adapter(tmp_path / "native", tmp_path / "back", base=base, to="original")
    stored, back = (
        torch.load(folder / "pytorch_model.bin", weights_only=True)
        for folder in (source, tmp_path / "back")
    )
    assert stored.keys() == back.keys()
    assert all(torch.equal(back[name], each.float()) for name, each in stored.items())
    settings = json.loads((tmp_path / "back" / "config.json").read_text())
    told = json.loads((source / "config.json").read_text())
    assert [settings[key] for key in ("pre_seq_len", "prefix_projection")] == [
        told[key] for key in ("pre_seq_len", "prefix_projection")
    ]
    # What is written for a native base describes the same model as the original's own file.
    plain = {k: v for k, v in settings.items() if k not in ("pre_seq_len", "prefix_projection")}
    (tmp_path / "back" / "config.json").write_text(json.dumps(plain))
    ours, theirs = (
        native_config(recognise(folder), "float32").to_dict()
        for folder in (tmp_path / "back", original)
    )
    assert ours == theirs


@pytest.fixture
def official(tmp_path: Path, shared: toy.Find) -> Path:
    """An official prefix for ChatGLM2 that a test may break."""
    import shutil

    return Path(
        shutil.copytree(shared(f"{toy.FOLDERS['chatglm2-6b']}/ptuning-projection"), tmp_path / "of")
    )


def _settings(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "config.json").chmod(0o644)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def _state(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        state = torch.load(folder / "pytorch_model.bin", weights_only=True)
        (folder / "pytorch_model.bin").unlink()
        torch.save(change(state) or state, folder / "pytorch_model.bin")

    return rewrite


@pytest.mark.parametrize("lead", ["", "prefix_encoder."])
def test_official_files_with_stripped_names_are_read_too(lead, official, shared) -> None:
    base = shared(f"{toy.FOLDERS['chatglm2-6b']}/model")
    model = with_adapter(toy.original(base), official)
    _state(lambda state: {lead + k.split("prefix_encoder.")[1]: v for k, v in state.items()})(
        official
    )
    other = with_adapter(toy.original(base), official)
    for one, two in zip(
        toy.encoder(model).parameters(), toy.encoder(other).parameters(), strict=True
    ):
        assert torch.equal(one, two)


class Code:
    def __reduce__(self) -> Any:
        return (print, ("this must not run",))


def _with_code(folder: Path) -> None:
    (folder / "pytorch_model.bin").unlink()
    torch.save(
        {"transformer.prefix_encoder.embedding.weight": Code()}, folder / "pytorch_model.bin"
    )


OFFICIAL = {
    "another length": (_settings(pre_seq_len=9), r"embedding\.weight is not of shape \[9, 192\]"),
    "no projection": (_settings(prefix_projection=False), r"does not belong here, got 'trans\.0"),
    "no number": (_settings(pre_seq_len="8"), r"pre_seq_len is missing or no number"),
    "another family": (_settings(multi_query_group_num=4), r"embedding\.weight is not of shape"),
    "a whole model": (
        _state(lambda state: state.update({"transformer.output_layer.weight": torch.zeros(1)})),
        r"not the tensors of a prefix encoder alone, got '6 tensors, among them transformer\.out",
    ),
    "a tensor missing": (
        _state(lambda state: {k: v for k, v in state.items() if "trans.2.bias" not in k}),
        r"a tensor is missing, got 'trans\.2\.bias'",
    ),
    "no weights": (
        lambda folder: (folder / "pytorch_model.bin").unlink(),
        r"no pytorch_model\.bin",
    ),
    "code": (_with_code, r"holds more than tensors"),
}


@pytest.mark.parametrize("fault", OFFICIAL)
def test_broken_official_files_are_refused_and_nothing_is_written(
    fault, official, shared, tmp_path, capfd
) -> None:
    break_it, message = OFFICIAL[fault]
    break_it(official)
    base = shared(f"{toy.FOLDERS['chatglm2-6b']}/model")
    with pytest.raises(InputError, match=message):
        import_adapter(official, tmp_path / "native", base=base)
    assert not (tmp_path / "native").exists()
    with pytest.raises(InputError, match=message):
        with_adapter(toy.original(base), official)
    assert "must not run" not in capfd.readouterr().out


def test_a_prefix_for_the_other_family_is_refused(shared, tmp_path) -> None:
    source = shared(f"{toy.FOLDERS['chatglm-6b']}/ptuning-projection")
    base = shared(f"{toy.FOLDERS['chatglm2-6b']}/model")
    with pytest.raises(
        InputError, match=r"model_type 'chatglm-6b' does not fit the base, got 'glm'"
    ):
        import_adapter(source, tmp_path / "native", base=base)
    with pytest.raises(
        InputError, match=r"model_type 'chatglm-6b' does not fit the base, got 'glm'"
    ):
        with_adapter(toy.original(base), source)
