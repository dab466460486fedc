"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from project import ROOT

# A shell's background job is started with Ctrl-C ignored, and all that it starts inherits that: a
# Prefect worker then never ends. Tests that end processes must not depend on who called them.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """A file of the data beside the project (GLMOPS_SHARED or ../shared), or a loud skip."""
    folder = Path(os.environ.get("GLMOPS_SHARED", ROOT.parent / "shared"))

    def find(name: str) -> Path:
        if not (folder / name).exists():
            pytest.skip(f"NOT RUN: {name} is absent; set GLMOPS_SHARED to the folder that has it")
        return folder / name

    return find
