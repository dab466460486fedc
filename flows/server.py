"""A private Prefect server for as long as one run needs it, unless the user names one.

Prefect can start such a server by itself, but that one dies of the Ctrl-C that it should record,
outlives a killed run, and two that make their first database at once break each other. So the same
program is started here: in a session of its own, ending with its parent, one start at a time.
``python -m flows.server FD PARENT`` is that process; FD is its listening socket.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from flows.environment import OPT_IN, is_private
from flows.stopping import Stop, spared
from glmops.errors import MachineError


@dataclass
class _Kept:
    """The server of several runs: ``stack`` ends it, ``url`` is None before the first needs it."""

    stack: ExitStack
    url: str | None = None


_kept: _Kept | None = None


@contextmanager
def shared() -> Iterator[None]:
    """Runs that follow one another in here use one private server, started when one needs it.

    Prefect reads the server's address once for the whole process, so several runs in one process
    have no choice.
    """
    global _kept
    with ExitStack() as stack:
        _kept = _Kept(stack)
        try:
            yield
        finally:
            _kept = None


@contextmanager
def available(stop: Stop) -> Iterator[None]:
    """Prefect's client in this process talks to a server while this lasts.

    Needs ``environment.apply`` first. ``stop`` ends the wait for a server that starts.

    Raises:
        MachineError: The private server did not start in time, or the named one does not answer.
    """
    if not is_private():
        _require_answer(os.environ["PREFECT_API_URL"])
        yield
        return
    if _kept is None:
        with _private(stop):
            yield
            _deliver_all()
        return
    if _kept.url is None:
        _kept.url = _kept.stack.enter_context(_private(stop))
    os.environ["PREFECT_API_URL"] = _kept.url
    yield
    _deliver_all()


@contextmanager
def _private(stop: Stop) -> Iterator[str]:
    """The address of a server of our own, which ends with the block."""
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        os.environ["PREFECT_API_URL"] = url
        patience = float(os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"])
        waiting = Console(stderr=True).status("starting a private Prefect server")
        with waiting, _one_start_at_a_time(home, patience):
            stop.check()
            process = _start(listening, home / "server.log")
            try:
                import prefect.flows  # noqa: F401  takes a second that the server needs too

                _wait_until_ready(process, url, time.monotonic() + patience, stop)
            except BaseException:
                _end(process)
                raise
    try:
        with spared(process.pid):
            yield url
    finally:
        _end(process)
        os.environ.pop("PREFECT_API_URL", None)


@contextmanager
def _one_start_at_a_time(home: Path, patience: float) -> Iterator[None]:
    try:
        with FileLock(home / "start.lock", timeout=2 * patience):
            yield
    except Timeout:
        raise MachineError(
            home, "another run has been starting its server for too long", do="Stop that run."
        ) from None


def _start(listening: socket.socket, log: Path) -> subprocess.Popen[bytes]:
    descriptor = listening.fileno()
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(descriptor), str(os.getpid())],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"},
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _wait_until_ready(
    process: subprocess.Popen[bytes], url: str, deadline: float, stop: Stop
) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None and time.monotonic() < deadline:
        stop.check()
        try:
            with direct.open(f"{url}/health", timeout=2):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    log = Path(os.environ["PREFECT_HOME"]) / "server.log"
    raise MachineError("Prefect", "its server did not start", do=f"Read {log}, then try again.")


def _require_answer(url: str) -> None:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10):
            return
    except urllib.error.HTTPError:
        return  # it answers; whether it lets us in is between it and Prefect's client
    except (OSError, ValueError) as error:
        raise MachineError(
            OPT_IN,
            f"no Prefect server answers there ({error})",
            got=url,
            do="Start it, or unset it.",
        ) from None


def _deliver_all() -> None:
    """Send what Prefect's client still holds in its queues, before the server goes."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=5)
    EventsWorker.drain_all(timeout=10)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _serve(descriptor: int) -> None:
    """The server's process."""
    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(create_app(), log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def _end_with(parent: int) -> None:
    """End when the process that started this one is gone: nobody else would stop the server.

    Its number is given, since it may be gone before this process can ask who it was.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


if __name__ == "__main__":
    _end_with(int(sys.argv[2]))
    _serve(int(sys.argv[1]))
