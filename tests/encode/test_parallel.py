from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import toy_model as toy
from glmops.encode import split
from glmops.encode.dataset import encode_dataset
from glmops.encode.parallel import AHEAD, Task, in_order
from glmops.errors import MachineError
from glmops.storage import sha256_tree

ROOT = Path(__file__).parents[2]


def upper(suffix: bytes) -> Callable[[bytes], bytes]:
    """Work for another process: it names itself, so that a test can see who did it."""
    return lambda chunk: chunk.upper() + suffix + b" %d" % os.getpid()


def slow_first(_: None) -> Callable[[bytes], bytes]:
    def work(chunk: bytes) -> bytes:
        time.sleep(0.3 if chunk == b"0" else 0)
        return chunk

    return work


def dying(_: None) -> Callable[[bytes], bytes]:
    def work(chunk: bytes) -> bytes:
        if chunk == b"3":
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
        return chunk

    return work


def _tasks(number: int) -> list[Task]:
    return [Task(b"%d" % place) for place in range(number)]


def test_results_come_in_order_from_processes_that_were_made_once() -> None:
    results = list(in_order(upper, b"!", [Task(b"a%d" % n) for n in range(9)], workers=2))
    texts, workers = zip(*(result.split() for result in results), strict=True)
    assert texts == tuple(b"A%d!" % n for n in range(9))
    assert len(set(workers)) == 2
    assert b"%d" % os.getpid() not in workers


def test_what_is_known_is_not_done_again_and_starts_no_process() -> None:
    tasks = [Task(b"a", b"known"), Task(b"b", b"too")]
    assert list(in_order(upper, b"", tasks, workers=2)) == [b"known", b"too"]
    mixed = list(in_order(upper, b"", [Task(b"a"), Task(b"b", b"known")], workers=2))
    assert mixed[0].startswith(b"A ")
    assert mixed[1] == b"known"


def test_without_workers_the_work_is_done_here() -> None:
    results = list(in_order(upper, b"", [Task(b"a"), Task(b"b", b"known")], workers=0))
    assert results == [b"A %d" % os.getpid(), b"known"]


def test_a_slow_chunk_does_not_let_the_others_pile_up() -> None:
    taken = []

    def tasks() -> Iterator[Task]:
        for task in _tasks(40):
            taken.append(task)
            yield task

    results = in_order(slow_first, None, tasks(), workers=2)
    assert next(results) == b"0"
    assert len(taken) <= AHEAD * 2
    assert list(results) == [task.chunk for task in _tasks(40)[1:]]


def test_a_worker_that_is_killed_is_a_fault_of_the_machine() -> None:
    with pytest.raises(MachineError, match=r"encode: a worker ended with exit code -9"):
        list(in_order(dying, None, _tasks(20), workers=2))


def test_workers_end_with_a_parent_that_is_killed() -> None:
    script = (
        "import sys, time; sys.path[:0] = ['tests/encode']; import test_parallel as t;"
        "from glmops.encode.parallel import in_order\n"
        "if __name__ == '__main__':\n"
        "    results = in_order(t.upper, b'', t._tasks(10**6), workers=2)\n"
        "    for result in results: print(result.split()[1].decode(), flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests/encode'}"}
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    assert parent.stdout
    workers = {int(parent.stdout.readline()) for _ in range(200)}
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 30
    while alive := [pid for pid in workers if Path(f"/proc/{pid}/cmdline").exists()]:
        states = {pid: Path(f"/proc/{pid}/stat").read_text().split()[2] for pid in alive}
        if set(states.values()) == {"Z"}:  # ended, and nobody has asked for its exit code
            break
        assert time.monotonic() < until, f"still there: {states}"
        time.sleep(0.1)


def test_processes_write_the_same_bytes_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = toy.write_prepared(tmp_path / "prepared")
    encode_dataset(prepared, toy.encode_settings(), root=tmp_path, folder=tmp_path / "one")
    monkeypatch.setattr(split, "PARALLEL_FROM", 1)
    monkeypatch.setattr(split, "QUICK_PARALLEL_FROM", 1)
    monkeypatch.setattr(split, "num_workers", lambda: 2)
    encode_dataset(prepared, toy.encode_settings(), root=tmp_path, folder=tmp_path / "two")
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")
