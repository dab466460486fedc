"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import deviations
from project import ROOT

# Small models are fastest on one thread, and several test processes with all threads each wait for
# one another most of the time. Set before torch is imported; the processes of a test inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background job is started with Ctrl-C ignored, and all that it starts inherits that: a
# Prefect worker then never ends. Tests that end processes must not depend on who called them.
signal.signal(signal.SIGINT, signal.default_int_handler)


SHARED = Path(os.environ.get("GLMOPS_SHARED", ROOT.parent / "shared"))
ABSENT = "NOT RUN: the reference data is absent; set GLMOPS_SHARED to the folder that holds it"


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """A file of the data beside the project (GLMOPS_SHARED or ../shared), or a loud skip.

    Where the data is there, nothing of it may be passed over: an absent file is then a failure.
    """

    def find(name: str) -> Path:
        if not (SHARED / "reference").is_dir():
            pytest.skip(ABSENT)
        if not (SHARED / name).exists():
            pytest.fail(f"{SHARED} is there, but {name} is not in it")
        return SHARED / name

    return find


LONGEST = ("test_end_to_end.py", "test_demo.py")
"""Files of several minutes: begun last, they would keep one process busy while the others rest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """What a test measured travels with its report, from whichever process ran it."""
    if call.when == "call":
        item.user_properties += [("deviation", each) for each in deviations.taken()]
    return (yield)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The largest deviation from the original code per family, and loudly what did not run."""
    reports = [
        report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])
    ]
    noted = [
        value
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name == "deviation"
    ]
    if noted:
        terminalreporter.section("largest deviation from the original code")
        for line in deviations.table(noted):
            terminalreporter.write_line(line)
    unrun = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if ABSENT in str(report.longrepr)
    ]
    if unrun:
        terminalreporter.section("NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.write_line(f"{len(unrun)} tests against the original code. {ABSENT}")
