"""Ending what was started, politely first; and not for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from flows.stopping import end_processes, spared
from toy_project import ROOT, still_alive, until

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]]) if sys.argv[1:] else None
print(child.pid if child else "ready", flush=True)
time.sleep(600)
"""

BUSY = """
import time
from flows.stopping import Stop
stop = Stop()
with stop.listening():
    print("ready", flush=True)
    while True:
        time.sleep(0.1)
"""


def start(*command: str) -> tuple[subprocess.Popen[str], str]:
    """A Python process and the line that it says when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", *command], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end_all_but_the_spared() -> None:
    kept, _ = start(STUBBORN)
    stubborn, child = start(STUBBORN, STUBBORN)
    with spared(kept.pid):
        end_processes(0.5)
        assert stubborn.wait(5) == -signal.SIGKILL
        until(lambda: not still_alive([int(child)]), "the grandchild ended", 5)
        assert kept.poll() is None
    end_processes(0)
    assert kept.wait(5) == -signal.SIGKILL
    for process in (kept, stubborn):
        process.communicate()


def test_a_process_that_ignores_sigterm_is_killed_with_its_children_but_a_spared_one_lives() -> (
    None
):
    # In a process of its own: all below this one would end, Python's helpers of other tests, too.
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", "import test_stopping; test_stopping.end_all_but_the_spared()"],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_who_asks_three_times_is_not_kept_waiting(tmp_path: Path) -> None:
    busy, _ = start(BUSY)
    for _ in range(2):
        busy.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert busy.poll() is None
    busy.send_signal(signal.SIGINT)
    assert busy.wait(5) == 130
    busy.communicate()
