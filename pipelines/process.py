"""How every stage process starts and ends: its argument, its lock, its errors.

A stage is started as ``python -m pipelines.STAGE NAME``, by DVC or by hand. DVC hides a stage's
exit code, so the driver also reads the error from the file that it names in GLMOPS_STAGE_ERROR.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from glmops.errors import GlmopsError, MachineError, RecipeError
from glmops.recipe import Recipe, load_recipe
from glmops.storage import Layout, project_root, write_json

STAGE_ERROR = "GLMOPS_STAGE_ERROR"
DRIVER_PID = "GLMOPS_DRIVER_PID"

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
    lock = FileLock(layout.work(stage).with_suffix(".lock"))
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
