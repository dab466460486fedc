"""What a training process leaves out, each in a process of its own: imports cannot be undone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import toy_model as toy
from glmops.recipe import Train

ROOT = Path(__file__).parents[2]

# A stage, a worker and the two processes of a plan: each must leave out before transformers comes.
DOORS = (
    "pipelines.train",
    "glmops.train.worker",
    "glmops.train.job",
    "glmops.train.lean",
    "glmops.train.plan.probe",
    "glmops.train.plan.process",
)

LOADED = """
import json, sys
from pathlib import Path
from glmops.recipe import Train
from glmops.train.lean import leave_out
names = leave_out(Train.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
import glmops.train.candidate, transformers, peft
from transformers import GlmConfig, GlmForCausalLM, Trainer
{more}
print(json.dumps([names, [name for name in names if sys.modules.get(name)]]))
"""
LORA = """
from glmops.train.methods import METHODS
config = GlmConfig(vocab_size=8, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
                   num_attention_heads=1, num_key_value_heads=1, head_dim=64, pad_token_id=0)
METHODS["lora"](GlmForCausalLM(config), Train.model_validate_json(sys.argv[1]))
"""
QUANTISED = """
import bitsandbytes
from glmops.models.quantization import bitsandbytes_config
import torch
bitsandbytes_config("nf4", torch.bfloat16)
"""


def _in_a_process(settings: Train, root: Path, more: str) -> tuple[list[str], list[str]]:
    words = [sys.executable, "-c", LOADED.format(more=more), settings.model_dump_json(), str(root)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names, loaded = json.loads(done.stdout.splitlines()[-1])
    return names, loaded


def _pretrained(folder: Path, config: dict[str, Any]) -> Train:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    base = {"method": "pretrained", "path": folder.name, "sha256": "0" * 64}
    return toy.train_settings(base=base)


@pytest.mark.parametrize("door", DOORS)
def test_transformers_is_not_imported_before_it_is_known_what_to_leave_out(door: str) -> None:
    code = f"import {door}, sys; print('transformers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_run_in_full_precision_loads_none_of_them_and_can_make_a_lora(tmp_path: Path) -> None:
    names, loaded = _in_a_process(toy.train_settings(), tmp_path, LORA)
    assert {"bitsandbytes", "datasets", "deepspeed", "scipy", "sklearn"} == set(names)
    assert loaded == []


@pytest.mark.parametrize("stored", [False, True])
def test_a_quantised_run_keeps_bitsandbytes(tmp_path: Path, stored: bool) -> None:
    kept = {"quantization_config": {"quant_method": "bitsandbytes"}} if stored else {}
    settings = _pretrained(tmp_path / "base", kept)
    if not stored:
        settings = settings.model_copy(update={"quantization": "nf4"})
    names, loaded = _in_a_process(settings, tmp_path, QUANTISED)
    assert not {"bitsandbytes", "scipy"} & set(names)
    assert loaded == []


def test_deepspeed_stays_where_it_trains(tmp_path: Path) -> None:
    settings = toy.train_settings(launch={"engine": "deepspeed", "zero": 2})
    names, _ = _in_a_process(settings, tmp_path, "")
    assert "deepspeed" not in names
