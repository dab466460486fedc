"""One of the processes that train together: ``python -m glmops.train.worker JOB``.

``glmops.train.launch`` starts them through torchrun's agent and reads what they leave in the
folder of the job.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import NoReturn

LAUNCHER = "GLMOPS_LAUNCHER_PID"
ASKED_TO_STOP = 130
"""The exit code of a process that was, and has saved what it did."""


def main() -> None:
    path = Path(sys.argv[1])
    rank = int(os.environ["RANK"])
    _speak_to(path.parent / f"rank-{rank}.log")
    _end_with(int(os.environ[LAUNCHER]))

    from glmops.errors import GlmopsError
    from glmops.train import job, ranks

    # DeepSpeed 0.19 calls torch 2.13 by the old names of its collectives.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    try:
        _train(path)
    except GlmopsError as error:
        job.write_error(path.parent, rank, error)
        _exit(error.exit_code)
    except KeyboardInterrupt:
        _exit(ASKED_TO_STOP)
    ranks.leave()


def _train(path: Path) -> None:
    from glmops.train import job, lean, ranks, zero

    task = job.read_job(path)
    lean.leave_out(task.settings, task.root)
    from glmops.train.candidate import Place, read_encoded, train_candidate

    ranks.join()
    if task.settings.launch.engine == "deepspeed":
        zero.need_no_compiler()
    place = Place(task.root, task.scratch, task.out)
    history, numbers = train_candidate(read_encoded(task.encoded), task.settings, place)
    if ranks.is_first():
        job.write_result(path.parent, history, numbers)


def _exit(code: int) -> NoReturn:
    """At once: with the others gone, saying good-bye to them would wait for an answer."""
    sys.stderr.flush()
    os._exit(code)


def _speak_to(log: Path) -> None:
    """Of a process that dies without an error of its own, its last words are kept."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _end_with(launcher: int) -> None:
    """End when the one who started us is gone: a killed stage leaves nothing behind.

    Its number is given, because it may be gone before we can ask who our parent is.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and _exists(launcher):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
