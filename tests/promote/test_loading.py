"""A registered package opens through MLflow's own loader, with pickle switched off."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from glmops.contract import load_contract
from glmops.promote import registry
from glmops.promote.connection import connected
from glmops.recipe import ScratchBase

CONTEXT = "Instruction: 读。\nInput: 问？\n\n句子。\nAnswer: "


@pytest.fixture
def tiny_checkpoint(workshop) -> Path:
    """The workshop's checkpoint with a real GLM of a few thousand weights and its tokenizer."""
    from glmops.models.small import small_glm
    from glmops.models.tokenizers import train_tokenizer

    folder = workshop.layout.model
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    tokenizer = train_tokenizer([CONTEXT], 300)
    schedule = {
        "epochs": 1, "batch_size": 1, "learning_rate": 1, "warmup_fraction": 0, "weight_decay": 0,
    }  # fmt: skip
    settings = ScratchBase.model_validate(
        {
            "method": "scratch", "hidden_size": 16, "intermediate_size": 32, "layers": 1,
            "heads": 2, "kv_heads": 1, "schedule": schedule,
        }
    )  # fmt: skip
    small_glm(settings, tokenizer, max_tokens=512, seed=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert load_contract(folder)
    return folder


def test_a_registered_model_loads_without_pickle_and_answers(
    workshop, tiny_checkpoint: Path, monkeypatch
) -> None:
    digest = workshop.register().digest
    registry.fetch(workshop.root, "demo-candidates", digest)
    shutil.rmtree(tiny_checkpoint)  # what is loaded is what was stored
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    import pandas

    with connected(workshop.root) as client:
        import mlflow.pyfunc

        uri = client.get_model_version_download_uri("demo-candidates", "1")
        model = mlflow.pyfunc.load_model(uri)
    answers = model.predict(pandas.DataFrame({"context": [CONTEXT, CONTEXT]}))
    assert len(answers) == 2
    json.dumps(list(answers), ensure_ascii=False)
