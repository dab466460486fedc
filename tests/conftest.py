"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from project import ROOT


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """A file of the data beside the project (GLMOPS_SHARED or ../shared), or a loud skip."""
    folder = Path(os.environ.get("GLMOPS_SHARED", ROOT.parent / "shared"))

    def find(name: str) -> Path:
        if not (folder / name).exists():
            pytest.skip(f"NOT RUN: {name} is absent; set GLMOPS_SHARED to the folder that has it")
        return folder / name

    return find
