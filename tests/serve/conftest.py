from __future__ import annotations

from pathlib import Path

import pytest

import toy_model as toy
from glmops.train.export import save_checkpoint


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package: its ``model`` is a checkpoint that answers nonsense, but always the same."""
    contract = toy.contract()
    lineage = {"method": "scratch", "contract": contract.hash()}
    save_checkpoint(tmp_path / "p" / "model", toy.model(), toy.tokenizer(), contract, lineage)
    return tmp_path / "p"
