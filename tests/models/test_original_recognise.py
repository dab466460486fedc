"""Which folders are original-format checkpoints, and which of their settings cannot be had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import toy_original as toy
from glmops.errors import InputError
from glmops.models import load
from glmops.models.original.opening import require_native
from glmops.models.original.recognise import recognise
from glmops.models.original.settings import native_config, special_ids

# The published ChatGLM-6B config.json as far as it matters here: its first release, then its last.
FIRST_RELEASE: dict[str, Any] = {
    "model_type": "chatglm",
    "bos_token_id": 150004,
    "eos_token_id": 150005,
    "hidden_size": 4096,
    "inner_hidden_size": 16384,
    "layernorm_epsilon": 1e-05,
    "max_sequence_length": 2048,
    "num_attention_heads": 32,
    "num_layers": 28,
    "position_encoding_2d": True,
    "vocab_size": 150528,
}
LAST_RELEASE = {
    **FIRST_RELEASE,
    "bos_token_id": 130004,
    "eos_token_id": 130005,
    "mask_token_id": 130000,
    "gmask_token_id": 130001,
    "pad_token_id": 3,
    "vocab_size": 130528,
}


def folder_with(tmp_path: Path, settings: Any) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(settings))
    return tmp_path


def config_of(tmp_path: Path, settings: Any) -> Any:
    original = recognise(folder_with(tmp_path, settings))
    assert original is not None
    return native_config(original, "float16")


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (FIRST_RELEASE, "chatglm-6b"),
        (LAST_RELEASE, "chatglm-6b"),
        (toy.LATER, "chatglm2-6b"),
        ({**toy.LATER, "_name_or_path": "THUDM/chatglm3-6b-32k"}, "chatglm3-6b"),
        ({**toy.LATER, "eos_token_id": [2, 5]}, "glm-4-9b"),
    ],
)
def test_each_family_is_known_by_its_config(
    settings: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    original = recognise(folder_with(tmp_path, settings))
    assert original is not None
    assert original.kind == kind


@pytest.mark.parametrize("settings", [{"model_type": "glm"}, {"model_type": "llama"}, {}, []])
def test_other_checkpoints_are_not_taken_for_one(settings: Any, tmp_path: Path) -> None:
    assert recognise(folder_with(tmp_path, settings)) is None


def test_a_folder_without_a_config_is_not_taken_for_one(tmp_path: Path) -> None:
    assert recognise(tmp_path) is None


def test_a_chatglm_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"model_type": "chatglm", "hidden_size": 8})
    with pytest.raises(InputError, match=r"no known GLM.*Supported: ChatGLM-6B, ChatGLM2-6B"):
        load(folder)


def test_both_published_vocabularies_bring_their_own_special_ids(tmp_path: Path) -> None:
    # The first release names only <sop> and <eop>; the rest stood in its code (ARCHITECTURE 1.1).
    config = config_of(tmp_path, FIRST_RELEASE)
    ids = (config.mask_token_id, config.gmask_token_id, config.bos_token_id, config.eos_token_id)
    assert (*ids, config.pad_token_id) == (150000, 150001, 150004, 150005, 20003)
    config = config_of(tmp_path, LAST_RELEASE)
    ids = (config.mask_token_id, config.gmask_token_id, config.bos_token_id, config.eos_token_id)
    assert (*ids, config.pad_token_id) == (130000, 130001, 130004, 130005, 3)


@pytest.mark.parametrize("missing", ["gmask_token_id", "pad_token_id", "bos_token_id"])
def test_special_ids_of_an_unpublished_vocabulary_are_never_guessed(
    missing: str, tmp_path: Path
) -> None:
    settings = {**LAST_RELEASE, "vocab_size": 130560}
    del settings[missing]
    original = recognise(folder_with(tmp_path, settings))
    assert original is not None
    with pytest.raises(InputError, match=rf"{missing} must be an id below"):
        special_ids(original)


def test_a_special_id_outside_the_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"eos_token_id must be an id below .* 320, got \[2, 320\]"
    ):
        config_of(tmp_path, {**toy.LATER, "eos_token_id": [2, 320]})


def test_settings_become_those_of_the_native_model(tmp_path: Path) -> None:
    config = config_of(tmp_path, {**toy.LATER, "rope_ratio": 50, "_name_or_path": "x/chatglm3-6b"})
    assert config.rope_parameters["rope_theta"] == 500000.0
    assert config.rope_parameters["rope_type"] == "default"
    assert (config.head_dim, config.num_key_value_heads, config.vocab_size) == (8, 1, 320)
    assert (config.intermediate_size, config.max_position_embeddings) == (24, 64)


def test_the_long_chatglm2_divides_positions_instead_of_raising_the_base(tmp_path: Path) -> None:
    # Its modelling code: positions / rope_ratio, base 10000; from ChatGLM3 on: base * rope_ratio.
    settings = {**toy.LATER, "rope_ratio": 16, "_name_or_path": "THUDM/chatglm2-6b-32k"}
    rope = config_of(tmp_path, settings).rope_parameters
    assert (rope["rope_type"], rope["factor"], rope["rope_theta"]) == ("linear", 16.0, 10000.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("add_bias_linear", True),
        ("rmsnorm", False),
        ("post_layer_norm", False),
        ("apply_residual_connection_post_layernorm", True),
        ("multi_query_attention", False),
        ("original_rope", False),
        ("fp32_residual_connection", True),
        ("tie_word_embeddings", True),
        ("hidden_dropout", 0.1),
        ("vision_config", {"hidden_size": 1}),
        ("num_hidden_layers", 3),
        ("rope_ratio", 0),
        ("kv_channels", None),
        ("ffn_hidden_size", "24"),
        ("quantization_bit", 2),
        ("quantization_embeddings", True),
        ("pre_seq_len", 8),
    ],
)
def test_a_setting_that_no_native_model_has_is_refused_by_name(
    key: str, value: object, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"config\.json: .*{key}"):
        config_of(tmp_path, {**toy.LATER, key: value})


def test_a_command_that_needs_native_weights_names_the_one_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Run `glmops import-model .*-native`"):
        require_native(folder_with(tmp_path, toy.LATER))
    require_native(folder_with(tmp_path, {"model_type": "glm"}))


@pytest.mark.parametrize("mark", ["name", "code"])
def test_chatglm3_also_stops_where_another_speaker_would_begin(mark: str, tmp_path: Path) -> None:
    folder = toy.small(tmp_path / "original", _name_or_path="")
    if mark == "name":
        (folder / "tokenizer_config.json").write_text('{"name_or_path": "THUDM/chatglm3-6b"}')
    else:
        (folder / "tokenizer_config.json").unlink()
        (folder / "tokenization_chatglm.py").write_text("raise SystemExit('<|assistant|>')")
    model, tokenizer = load(folder, device="cpu")
    # ARCHITECTURE 3: n+6 and n+8 after the n pieces, beside </s>.
    assert model.generation_config.eos_token_id == [2, toy.PIECES + 6, toy.PIECES + 8]
    assert tokenizer.convert_ids_to_tokens(toy.PIECES + 6) == "<|user|>"
    model, _ = load(toy.small(tmp_path / "second"), device="cpu")
    assert model.generation_config.eos_token_id == 2
