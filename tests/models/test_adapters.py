"""LoRA of the published GLM code ↔ native: equal to adding scale · B A to the original weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

import toy_prefix as toy
from deviations import note
from glmops.cli import app
from glmops.errors import InputError, RecipeError
from glmops.models.adapters import with_adapter
from glmops.models.original.adapters import import_adapter
from glmops.models.original.prefixes import original_settings

# peft 0.21 still asks transformers 5.23 by the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")

LOGITS = {"chatglm-6b": 2e-3, "chatglm2-6b": 3e-4}  # reference/README.md
STEM = {"chatglm-6b": "transformer.layers", "chatglm2-6b": "transformer.encoder.layers"}
SIZES = {  # out, in of the reference models' matrices: MANIFEST.json
    "chatglm-6b": {
        "attention.query_key_value": (192, 64),
        "attention.dense": (64, 64),
        "mlp.dense_h_to_4h": (256, 64),
        "mlp.dense_4h_to_h": (64, 256),
    },
    "chatglm2-6b": {
        "self_attention.query_key_value": (128, 64),
        "self_attention.dense": (64, 64),
        "mlp.dense_h_to_4h": (320, 64),
        "mlp.dense_4h_to_h": (64, 160),
    },
}
# What the first releases of peft wrote, with keys that today's does not know.
OLD = {
    "base_model_name_or_path": "THUDM/chatglm2-6b",
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "inference_mode": True,
    "r": 4,
    "lora_alpha": 16,
    "lora_dropout": 0.1,
    "target_modules": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    "bias": "none",
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "merge_weights": False,
    "enable_lora": None,
}
Delta = dict[str, Tensor]


@pytest.fixture(params=tuple(LOGITS))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def _remote(
    folder: Path,
    family: str,
    *,
    ranks: dict[str, int] | None = None,
    layers: tuple[int, ...] = (0, 1, 2),
    names: str = "base_model.model.{}.lora_{}.weight",
    pickled: bool = False,
    **changes: Any,
) -> dict[str, tuple[Tensor, Tensor]]:
    """A LoRA folder as the published code's users have it; module → (A, B)."""
    folder.mkdir()
    config = {**OLD, **changes}
    random = torch.Generator().manual_seed(7)
    tensors, matrices = {}, {}
    for layer in layers:
        for name, (rows, columns) in SIZES[family].items():
            module, rank = f"{STEM[family]}.{layer}.{name}", (ranks or {}).get(name, config["r"])
            a = torch.randn(rank, columns, generator=random) * 0.1
            b = torch.randn(rows, rank, generator=random) * 0.1
            matrices[module] = (a, b)
            for side, each in (("A", a), ("B", b)):
                tensors[names.format(module, side)] = each
    if pickled:
        torch.save(tensors, folder / "adapter_model.bin")
    else:
        save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return matrices


def _merged(base: Path, deltas: Delta, folder: Path) -> Any:
    """The oracle: the original checkpoint with each delta added to its matrix, opened natively."""
    folder.mkdir()
    shutil.copyfile(base / "config.json", folder / "config.json")
    weights: Delta = {}
    for shard in sorted(base.glob("pytorch_model-*.bin")):
        weights |= torch.load(shard, weights_only=True)
    for module, delta in deltas.items():
        weights[f"{module}.weight"] = weights[f"{module}.weight"].float() + delta
    torch.save(weights, folder / "pytorch_model.bin")
    return toy.original(folder)


def _ids(family: str) -> Tensor:
    ids = torch.randint(5, 300, (2, 12), generator=torch.Generator().manual_seed(3))
    if family == "chatglm-6b":
        ids[:, 8], ids[:, 9] = 401, 404  # [gMASK] <sop>
    return ids


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pickled, by its adapter's name": {
        "pickled": True,
        "names": "base_model.model.{}.lora_{}.default.weight",
    },
    "rank-stabilised": {"use_rslora": True, "lora_alpha": 3},
    "with patterns": {
        "ranks": {"mlp.dense_4h_to_h": 2},
        "rank_pattern": {"dense_4h_to_h": 2},
        "alpha_pattern": {"query_key_value": 5, "layers.1.mlp.dense_h_to_4h": 9},
    },
    "in one layer": {"layers": (1,), "layers_to_transform": [1]},
}


def _scale(module: str, rank: int, config: dict[str, Any]) -> float:
    """peft's own definition of an adapter's weight, written again."""
    patterns = {k: v for k, v in config.get("alpha_pattern", {}).items() if module.endswith(k)}
    alpha = next(iter(patterns.values()), config["lora_alpha"])
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_imported_lora_equals_one_merged_into_the_original(
    family, variant, shared, tmp_path, record_property
) -> None:
    base = shared(f"{toy.FOLDERS[family]}/model")
    matrices = _remote(tmp_path / "remote", family, **VARIANTS[variant])
    assert import_adapter(tmp_path / "remote", tmp_path / "native", base=base) == "LoRA"
    model = with_adapter(toy.original(base), tmp_path / "native").eval()
    config = {**OLD, **VARIANTS[variant]}
    deltas = {m: _scale(m, len(a), config) * b @ a for m, (a, b) in matrices.items()}
    oracle = _merged(base, deltas, tmp_path / "merged")
    expected = toy.logits(oracle, input_ids=_ids(family))
    off = toy.far(toy.logits(model, input_ids=_ids(family)), expected)
    record_property("max_deviation", off)
    note(family, "logits with a LoRA of the published code", off, LOGITS[family])
    assert toy.far(expected, toy.logits(toy.original(base), input_ids=_ids(family))) > 0.1


NATIVE = {
    "apart": {"r": 4, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]},
    "some": {"r": 4, "target_modules": ["q_proj", "v_proj", "gate_up_proj"]},
    "unlike": {
        "r": 4,
        "target_modules": ["q_proj", "k_proj", "v_proj"],
        "rank_pattern": {"k_proj": 2},
        "alpha_pattern": {"v_proj": 3},
    },
    "rank-stabilised": {"r": 4, "use_rslora": True, "target_modules": ["q_proj", "k_proj"]},
    "one layer": {"r": 4, "target_modules": ["q_proj"], "layers_to_transform": [2]},
}


@pytest.mark.parametrize("variant", NATIVE)
def test_an_exported_lora_equals_the_native_one(variant, shared, tmp_path) -> None:
    from peft import LoraConfig, get_peft_model

    base = shared(f"{toy.FOLDERS['chatglm2-6b']}/model")
    torch.manual_seed(2)
    model = get_peft_model(
        toy.original(base), LoraConfig(lora_alpha=8, init_lora_weights=False, **NATIVE[variant])
    ).eval()
    # "auto" would look the base up on the network.
    model.save_pretrained(str(tmp_path / "native"), save_embedding_layers=False)
    import_adapter(tmp_path / "native", tmp_path / "remote", base=base, to="original")
    config = json.loads((tmp_path / "remote" / "adapter_config.json").read_text())
    deltas = _deltas(tmp_path / "remote", config)
    assert all(name.split(".", 4)[4] in SIZES["chatglm2-6b"] for name in deltas)
    oracle = _merged(base, deltas, tmp_path / "merged")
    off = toy.far(
        toy.logits(model, input_ids=_ids("chatglm2-6b")),
        toy.logits(oracle, input_ids=_ids("chatglm2-6b")),
    )
    note("chatglm2-6b", "logits with an exported LoRA", off, LOGITS["chatglm2-6b"])
    # and back again
    import_adapter(tmp_path / "remote", tmp_path / "again", base=base)
    again = with_adapter(toy.original(base), tmp_path / "again").eval()
    off = toy.far(
        toy.logits(model, input_ids=_ids("chatglm2-6b")),
        toy.logits(again, input_ids=_ids("chatglm2-6b")),
    )
    note("chatglm2-6b", "logits with an exported LoRA", off, LOGITS["chatglm2-6b"])


def _deltas(folder: Path, config: dict[str, Any]) -> Delta:
    """scale · B A by module, from a pickled LoRA whose patterns are escaped full names."""
    state = torch.load(folder / "adapter_model.bin", weights_only=True)
    deltas = {}
    for name, a in state.items():
        if ".lora_A." in name:
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            b, escaped = state[name.replace("lora_A", "lora_B")], module.replace(".", r"\.")
            assert config["rank_pattern"].get(escaped, config["r"]) == len(a)
            alpha = config["alpha_pattern"].get(escaped, config["lora_alpha"])
            scale = alpha / (len(a) ** 0.5 if config["use_rslora"] else len(a))
            deltas[module] = scale * b @ a
    return deltas


@pytest.mark.parametrize("family", ["chatglm2-6b"])
def test_projections_that_share_a_are_one_matrix_again(family, shared, tmp_path) -> None:
    base = shared(f"{toy.FOLDERS[family]}/model")
    matrices = _remote(tmp_path / "remote", family)
    import_adapter(tmp_path / "remote", tmp_path / "native", base=base)
    import_adapter(tmp_path / "native", tmp_path / "back", base=base, to="original")
    state = torch.load(tmp_path / "back" / "adapter_model.bin", weights_only=True)
    for module, (a, b) in matrices.items():
        assert torch.equal(state[f"base_model.model.{module}.lora_A.weight"], a)
        assert torch.equal(state[f"base_model.model.{module}.lora_B.weight"], b)
    config = json.loads((tmp_path / "back" / "adapter_config.json").read_text())
    told = {"r": 4, "lora_alpha": 16, "lora_dropout": 0.1, "rank_pattern": {}, "alpha_pattern": {}}
    assert told.items() <= config.items()
    assert config["target_modules"] == sorted(OLD["target_modules"])


def test_chatglm_6b_adapters_keep_every_name_and_value(shared, tmp_path) -> None:
    base = shared(f"{toy.FOLDERS['chatglm-6b']}/model")
    _remote(tmp_path / "remote", "chatglm-6b")
    import_adapter(tmp_path / "remote", tmp_path / "native", base=base)
    before, after = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("remote", "native")
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], each) for name, each in before.items())


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))

    return change


def _tensors(change: Callable[[Delta], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")

    return rewrite


def _cut(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


FIRST = "base_model.model.transformer.encoder.layers.0.self_attention.query_key_value"
BROKEN = {
    "whole modules": (_config(modules_to_save=["word_embeddings"]), "modules_to_save is more than"),
    "biases": (_config(bias="lora_only"), "bias: trained biases cannot be imported"),
    "magnitudes": (_config(use_dora=True), "use_dora is more than a LoRA"),
    "parts of a matrix": (_config(enable_lora=[True, False, True]), "enable_lora is more than a"),
    "an unknown setting": (_config(twist=0.5), "twist is more than a LoRA"),
    "a changed base": (_config(init_lora_weights="pissa_niter_4"), "changed the base's own"),
    "another method": (_config(peft_type="IA3"), "not the configuration of a LoRA"),
    "another rank": (_config(r=5), r"query_key_value is not of rank 5|is not of rank 5"),
    "no alpha": (_config(lora_alpha=None), "lora_alpha must be a number above 0, got None"),
    "cut short": (_cut, "not a whole safetensors file"),
    "no weights": (
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        "neither adapter_model.safetensors nor adapter_model.bin in it",
    ),
    "an embedding": (
        _tensors(lambda stored: stored.update({f"{FIRST}.lora_embedding_A": torch.zeros(1)})),
        "a tensor is no LoRA matrix, got .*lora_embedding_A",
    ),
    "half a pair": (
        _tensors(lambda stored: stored.pop(f"{FIRST}.lora_B.weight")),
        "half of a pair is missing, got .*layers.0.self_attention.query_key_value",
    ),
    "two adapters": (
        _tensors(lambda stored: stored.update({f"{FIRST}.lora_A.b.weight": torch.zeros(4, 64)})),
        "no adapter in it, or several",
    ),
    "no number": (
        _tensors(lambda stored: stored[f"{FIRST}.lora_B.weight"].fill_(float("inf"))),
        "holds numbers that are not finite",
    ),
    "another size": (
        _tensors(lambda stored: stored.update({f"{FIRST}.lora_B.weight": torch.zeros(96, 4)})),
        "query_key_value has 128 rows and 64 columns in this base, got '96 and 64'",
    ),
    "another module": (
        _tensors(
            lambda stored: stored.update(
                {
                    "base_model.model.transformer.output_layer.lora_A.weight": torch.zeros(4, 64),
                    "base_model.model.transformer.output_layer.lora_B.weight": torch.zeros(640, 4),
                }
            )
        ),
        "is not in the 3 layers of this base, got 'transformer.output_layer'",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_cannot_be_imported_is_refused_by_name_and_nothing_is_written(
    fault, shared, tmp_path
) -> None:
    break_it, message = BROKEN[fault]
    _remote(tmp_path / "remote", "chatglm2-6b")
    break_it(tmp_path / "remote")
    base = shared(f"{toy.FOLDERS['chatglm2-6b']}/model")
    with pytest.raises(InputError, match=message):
        import_adapter(tmp_path / "remote", tmp_path / "native", base=base)
    assert [path.name for path in tmp_path.iterdir()] == ["remote"]


def test_settings_without_meaning_do_not_stand_in_the_way(shared, tmp_path) -> None:
    base = shared(f"{toy.FOLDERS['chatglm2-6b']}/model")
    newer = {"use_dora": False, "layer_replication": None, "peft_version": "0.99", "eva_config": {}}
    _remote(tmp_path / "remote", "chatglm2-6b", **newer)
    import_adapter(tmp_path / "remote", tmp_path / "native", base=base)


def test_an_adapter_for_a_base_with_fewer_layers_or_of_the_other_family_is_refused(
    shared, tmp_path
) -> None:
    base = shared(f"{toy.FOLDERS['chatglm2-6b']}/model")
    _remote(tmp_path / "deep", "chatglm2-6b", layers=(0, 1, 2, 3))
    with pytest.raises(InputError, match=r"not in the 3 layers of this base, got '.*layers\.3\."):
        import_adapter(tmp_path / "deep", tmp_path / "native", base=base)
    _remote(tmp_path / "first", "chatglm-6b")
    with pytest.raises(InputError, match=r"an adapted module is not in .*Known: transformer\.enc"):
        import_adapter(tmp_path / "first", tmp_path / "native", base=base)
    toy.small("llama").save_pretrained(str(tmp_path / "llama"))
    with pytest.raises(InputError, match="not a model whose published code trains adapters, got"):
        import_adapter(tmp_path / "first", tmp_path / "native", base=tmp_path / "llama")


def test_places_that_cannot_be_meant_are_refused(shared, tmp_path) -> None:
    base = shared(f"{toy.FOLDERS['chatglm2-6b']}/model")
    _remote(tmp_path / "remote", "chatglm2-6b")
    with pytest.raises(InputError, match="exists already"):
        import_adapter(tmp_path / "remote", tmp_path / "remote", base=base)
    with pytest.raises(InputError, match="absent: no such folder"):
        import_adapter(tmp_path / "absent", tmp_path / "native", base=base)
    with pytest.raises(InputError, match=r"no config\.json in it"):
        import_adapter(tmp_path / "remote", tmp_path / "native", base=tmp_path / "remote")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds nothing that could become native, got 'an empty"):
        import_adapter(tmp_path / "empty", tmp_path / "native", base=base)
    with pytest.raises(RecipeError, match="to: unknown name, got 'sideways'"):
        import_adapter(tmp_path / "remote", tmp_path / "native", base=base, to="sideways")


def test_loading_refuses_what_is_not_one_native_adapter(shared, tmp_path) -> None:
    base = shared(f"{toy.FOLDERS['chatglm2-6b']}/model")
    model = toy.original(base)
    _remote(tmp_path / "remote", "chatglm2-6b")
    _remote(tmp_path / "pickled", "chatglm2-6b", pickled=True)
    (tmp_path / "empty").mkdir()
    shutil.copytree(tmp_path / "remote", tmp_path / "two")
    (tmp_path / "two" / "prefix_config.json").write_text("{}")
    for name, message in (
        (
            "remote",
            r"names of the published GLM code.*Run `glmops import-adapter .*remote remote-nat",
        ),
        ("pickled", r"no adapter_model\.safetensors in it \(pickled.*import-adapter"),
        ("empty", r"no adapter_config\.json in it, nor prefix_config\.json, nor a config\.json"),
        ("two", r"a peft adapter and a prefix in one folder"),
        ("absent", r"no such folder"),
    ):
        with pytest.raises(InputError, match=message):
            with_adapter(model, tmp_path / name)
    assert type(model).__name__ == "GlmForCausalLM"
    assert "lora" not in str(model).lower()


def test_a_setting_that_peft_does_not_know_is_not_dropped_in_silence(shared, tmp_path) -> None:
    base = shared(f"{toy.FOLDERS['chatglm-6b']}/model")
    _remote(tmp_path / "old", "chatglm-6b", enable_lora=[True, False, True])
    with pytest.raises(
        InputError, match=r"does not fit this base \(Unexpected keyword.*enable_lora"
    ):
        with_adapter(toy.original(base), tmp_path / "old")


def test_a_lora_remembers_its_base(shared, tmp_path) -> None:
    from transformers import AutoModelForCausalLM

    base = shared(f"{toy.FOLDERS['chatglm2-6b']}/model")
    toy.original(base).save_pretrained(str(tmp_path / "base"))
    other = toy.original(base)
    with torch.no_grad():
        other.model.layers[1].mlp.down_proj.weight[0, 0] += 1
    other.save_pretrained(str(tmp_path / "other"))
    _remote(tmp_path / "remote", "chatglm2-6b")
    import_adapter(tmp_path / "remote", tmp_path / "native", base=tmp_path / "base")
    opened = AutoModelForCausalLM.from_pretrained
    with_adapter(opened(str(tmp_path / "base")), tmp_path / "native")
    with pytest.raises(InputError, match=r"native: was made for another base \(fingerprint"):
        with_adapter(opened(str(tmp_path / "other")), tmp_path / "native")


def test_imports_of_one_checkpoint_are_one_base_in_any_dtype(shared, tmp_path) -> None:
    """`glmops import-model` writes down the hashes of what it read."""
    from transformers import AutoModelForCausalLM

    from glmops.models.original.importing import import_model

    original = shared(f"{toy.FOLDERS['chatglm2-6b']}/model")
    for dtype in ("float32", "bfloat16"):
        import_model(original, tmp_path / dtype, dtype=dtype)
    _remote(tmp_path / "remote", "chatglm2-6b")
    for number, base in enumerate((original, tmp_path / "bfloat16")):
        import_adapter(tmp_path / "remote", tmp_path / f"native{number}", base=base)
        model = AutoModelForCausalLM.from_pretrained(str(tmp_path / "float32"))
        with_adapter(model, tmp_path / f"native{number}")


def test_the_command_imports_and_exports(shared, tmp_path) -> None:
    base = shared(f"{toy.FOLDERS['chatglm2-6b']}/model")
    _remote(tmp_path / "remote", "chatglm2-6b")
    run = CliRunner().invoke
    places = [str(tmp_path / name) for name in ("remote", "native", "back")]
    done = run(app, ["import-adapter", *places[:2], "--base", str(base)])
    assert done.exit_code == 0, done.output
    assert "a LoRA" in done.output
    done = run(app, ["import-adapter", *places[1:], "--base", str(base), "--to", "original"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "back" / "adapter_model.bin").is_file()
    refused = run(app, ["import-adapter", *places[:2], "--base", str(base)])
    assert isinstance(refused.exception, InputError)


def test_a_rotation_that_the_published_code_cannot_name_is_refused(tmp_path) -> None:
    config = toy.small("glm").config
    config.rope_parameters = {"rope_type": "yarn", "rope_theta": 10000.0}
    with pytest.raises(InputError, match="its rotation cannot be written"):
        original_settings(tmp_path, config)
