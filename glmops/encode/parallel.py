"""Work on many chunks in several processes, with results in the order of the chunks.

Plain processes and pipes instead of a pool: a pool's workers outlive a killed parent, waiting for
work for ever. These end when their pipe does.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, cast

from glmops.errors import MachineError

MOST_WORKERS = 4
AHEAD = 3
"""Chunks in work or finished out of turn, for each worker: with the chunk size, a memory bound."""

Work = Callable[[bytes], bytes]


class Task(NamedTuple):
    """A chunk, and its result where that is known already."""

    chunk: bytes
    done: bytes | None = None


class _Worker(NamedTuple):
    process: Any
    pipe: Connection


def num_workers() -> int:
    """As many as this process may use cores, and four at most. No result depends on it."""
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)))


def in_order(
    make_work: Callable[[Any], Work], argument: Any, tasks: Iterable[Task], workers: int
) -> Iterator[bytes]:
    """The result of every task, in order: ``work(chunk)``, where each process makes its own
    ``work`` from ``argument``, once.

    ``make_work`` is a function of a module, so that a new process can import it. No process is
    started before one is needed, and none with 0 ``workers``: the work is then done here. Tasks are
    taken as they are needed.

    Raises:
        MachineError: A worker ended before its work was done.
    """
    if workers == 0:
        work = cache(make_work)
        yield from (task.done or work(argument)(task.chunk) for task in tasks)
        return
    started: list[_Worker] = []

    def start() -> _Worker:
        started.append(_start(make_work, argument))
        return started[-1]

    try:
        yield from _dispatch(start, workers, enumerate(tasks))
    finally:
        for worker in started:
            worker.pipe.close()
            worker.process.terminate()
            worker.process.join()
            worker.process.close()


def _dispatch(
    start: Callable[[], _Worker], workers: int, tasks: Iterator[tuple[int, Task]]
) -> Iterator[bytes]:
    free: deque[_Worker] = deque()
    busy: dict[Connection, tuple[int, _Worker]] = {}
    finished: dict[int, bytes] = {}
    turn, taken, more = 0, 0, True
    while more or busy or finished:
        # A worker is given a chunk only when it waits for one: then neither side of a pipe can be
        # stuck writing to the other.
        while more and len(busy) < workers and taken - turn < AHEAD * workers:
            number, task = next(tasks, (-1, Task(b"")))
            if number < 0:
                more = False
                break
            taken += 1
            if task.done is not None:
                finished[number] = task.done
                break  # in case it is its turn
            worker = free.popleft() if free else start()
            _talk(worker, partial(worker.pipe.send_bytes, task.chunk))
            busy[worker.pipe] = number, worker
        if busy and turn not in finished:
            for pipe in wait(list(busy)):
                number, worker = busy.pop(cast(Connection, pipe))
                finished[number] = _talk(worker, worker.pipe.recv_bytes)
                free.append(worker)
        while turn in finished:
            yield finished.pop(turn)
            turn += 1


def _talk(worker: _Worker, say: Callable[[], Any]) -> Any:
    try:
        return say()
    except (EOFError, OSError):
        worker.process.join()
        raise MachineError(
            "encode",
            f"a worker ended with exit code {worker.process.exitcode}, its work not done",
            do="If nothing is said above, memory ran out: free some and run again.",
        ) from None


def _start(make_work: Callable[[Any], Work], argument: Any) -> _Worker:
    context = get_context("spawn")  # a fork would copy the threads' locks of arrow and tokenizers
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make_work, argument), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _serve(pipe: Connection, make_work: Callable[[Any], Work], argument: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    work = make_work(argument)
    while True:
        try:
            chunk = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send_bytes(work(chunk))
