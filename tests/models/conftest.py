from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import toy_model as toy


@pytest.fixture(scope="session")
def _stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    toy.model().save_pretrained(str(folder))
    toy.tokenizer().save_pretrained(str(folder))
    return folder


@pytest.fixture
def checkpoint(_stored: Path, tmp_path: Path) -> Path:
    """A checkpoint folder that a test may break."""
    return Path(shutil.copytree(_stored, tmp_path / "checkpoint"))
