from __future__ import annotations

from pathlib import Path

import pytest

import toy_model as toy
from glmops.encode.dataset import encode_dataset
from glmops.train.candidate import Data, read_encoded


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the encode stage writes for the toy records."""
    root = tmp_path_factory.mktemp("encode")
    prepared = toy.write_prepared(root / "prepared")
    encode_dataset(prepared, toy.encode_settings(), root=root, folder=root / "toy")
    return root / "toy"


@pytest.fixture
def data(encoded: Path) -> Data:
    return read_encoded(encoded)
