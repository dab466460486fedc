"""How every stage process starts and ends: its argument, its lock, its errors.

A stage is started as ``python -m pipelines.STAGE NAME``, by DVC or by hand. DVC hides a stage's
exit code, so the driver also reads the error from the file that it names in GLMOPS_STAGE_ERROR.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from glmops.errors import GlmopsError, MachineError, RecipeError
from glmops.recipe import Recipe, load_recipe
from glmops.storage import Layout, project_root, write_json

STAGE_ERROR = "GLMOPS_STAGE_ERROR"
DRIVER_PID = "GLMOPS_DRIVER_PID"

LIVE_AFTER_SECONDS = 10.0
"""MLflow costs seconds to start. A training that is over before then is logged with its result."""
LAST_LINES_SECONDS = 5.0
"""How long the end of a training waits for MLflow."""
PLAIN_LINE_SECONDS = 60.0
"""Between two lines about a training where there is no terminal for a bar."""

Line = Mapping[str, Any]
Read = Callable[[Path, int], tuple[list[Any], int]]

Body = Callable[[Layout, Recipe], str]


def run(stage: str, body: Body) -> None:
    """Run ``body`` for the recipe named on the command line; it returns the line to say."""
    try:
        name = _only_argument(stage)
        root = project_root()
        recipe = load_recipe(root, name)
        _end_with_driver()
        with _stage_lock(Layout(root, name), stage):
            said = body(Layout(root, name), recipe)
        Console(highlight=False).print(f"[bold]{stage:<9}[/bold]{escape(said)}")
    except GlmopsError as error:
        _report(stage, error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _report(stage: str, error: GlmopsError) -> None:
    """Tell the driver where there is one, which then tells the people; else tell them."""
    if path := os.environ.get(STAGE_ERROR):
        record = {"exit_code": error.exit_code, "message": str(error), "stage": stage}
        write_json(Path(path), record)
    else:
        Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), markup=False)


@contextmanager
def progress(label: str, total: float) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal, nothing elsewhere; call what it yields with the steps just done."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(label, total=total)
        yield lambda steps: bars.advance(task, steps)


@contextmanager
def seen_live(layout: Layout, spool: Path, read: Read) -> Iterator[None]:
    """Show a training that appends to ``spool`` while the block runs: to people, and in MLflow.

    Args:
        read: Gives the lines of a spool from a byte on, and where the next begins.
    """
    began, ended = time.time(), threading.Event()
    with _bar() as show, _mlflow(layout, spool) as send:

        def watch() -> None:
            offset, last = 0, False
            while not last:
                last = ended.wait(0.2)
                if not spool.is_file() or spool.stat().st_size < offset:
                    offset = 0
                lines, offset = read(spool, offset)
                for line in lines:
                    if line.get("time", 0) >= began:  # the rest is of a run that this one goes on
                        show(line)
                        send()

        thread = threading.Thread(target=watch, name="seen-live", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextmanager
def _bar() -> Iterator[Callable[[Line], None]]:
    """A bar for each phase on a terminal; a line now and then elsewhere."""
    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("train {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    plain, tasks = _plain_lines(console), {}
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:

        def show(line: Line) -> None:
            if "said" in line:
                console.print(line["said"], markup=False)
                return
            if not console.is_terminal:
                plain(line)
                return
            phase = line["phase"]
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=line["of"], numbers="")
            bars.update(tasks[phase], completed=line["step"])
            if "values" in line:
                bars.update(tasks[phase], numbers=_numbers(line))

        yield show


def _plain_lines(console: Console) -> Callable[[Line], None]:
    due = time.monotonic() + PLAIN_LINE_SECONDS

    def show(line: Line) -> None:
        nonlocal due
        if "values" in line and time.monotonic() >= due:
            due = time.monotonic() + PLAIN_LINE_SECONDS
            step = f"train {line['phase']} step {line['step']} of {line['of']}"
            console.print(f"{step}: {_numbers(line)}", markup=False)

    return show


def _numbers(line: Line) -> str:
    values = line["values"]
    loss = f"loss {values['loss']:.4f}" if "loss" in values else ""
    speed = values.get("tokens_per_second")
    return f"{loss}, {speed:,.0f} tokens/s" if speed else loss


@contextmanager
def _mlflow(layout: Layout, spool: Path) -> Iterator[Callable[[], None]]:
    """Yields what to call at each sign of life; MLflow is started for a training that lasts.

    By name, as another stage would be: what it does changes no output, so it is no dependency.
    """
    process: subprocess.Popen[str] | None = None
    first = None

    def send() -> None:
        nonlocal process, first
        first = first or time.monotonic()
        if process is None and time.monotonic() - first >= LIVE_AFTER_SECONDS:
            command = [sys.executable, "-m", "glmops.promote.live"]
            log = spool.with_suffix(".log").open("w")
            with log:
                process = subprocess.Popen(
                    [*command, str(_project_of(layout.root)), layout.name, str(spool)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    text=True,
                    # A dead server must be given up soon enough for the next attempt.
                    env={"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", **os.environ},
                )

    word = "failed"
    try:
        yield send
        word = "finished"
    except (KeyboardInterrupt, SystemExit):
        word = "killed"
        raise
    finally:
        if process is not None:
            _end(process, word)


def _end(process: subprocess.Popen[str], word: str) -> None:
    """Let it send the last lines; what it cannot is sent when the candidate is registered."""
    try:
        process.communicate(word, timeout=LAST_LINES_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _project_of(root: Path) -> Path:
    """The user's project: a run with values of its own works in .glmops/runs/KEY below it."""
    inside = root.parent.name == "runs" and root.parent.parent.name == ".glmops"
    return root.parents[2] if inside else root


def _only_argument(stage: str) -> str:
    if len(sys.argv) != 2:
        raise RecipeError(
            f"pipelines.{stage}",
            "expected one argument, the recipe's name",
            got=" ".join(sys.argv[1:]),
            do=f"Call `python -m pipelines.{stage} NAME`.",
        )
    return sys.argv[1]


def _stage_lock(layout: Layout, stage: str) -> FileLock:
    """Two processes of one stage would write over each other's outputs."""
    # Machines that train together share the project's folder, and each runs the stage.
    node = os.environ.get("NODE_RANK", "0")
    lock = FileLock(layout.work(stage).with_suffix(".lock" if node == "0" else f".{node}.lock"))
    layout.work(stage).parent.mkdir(parents=True, exist_ok=True)
    try:
        # A stage whose driver was killed needs a second or two to notice and end.
        lock.acquire(timeout=15)
    except Timeout:
        raise MachineError(
            f"{stage}@{layout.name}",
            "another process is running this stage here",
            do="Wait for it to end, or stop it.",
        ) from None
    return lock


def _end_with_driver() -> None:
    """End when the driver or the parent process is gone: a killed run leaves no stage behind.

    The driver's pid is given, because a stage imports for seconds before it comes here, and by
    then its parent may already be another.
    """
    parent = os.getppid()
    driver = int(os.environ.get(DRIVER_PID, parent))

    def watch() -> None:
        while os.getppid() == parent and _exists(driver):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-driver", daemon=True).start()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's, so it is there
        return True
    return True
