"""The longest forwards of a recipe, for real: ``python -m glmops.train.plan.probe JOB``.

It is the train stage itself, in a process of its own: when it dies, nothing else does. Its rows are
those of the longest forward, and of a typical one, put where the shuffled order will find them.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmops.errors import GlmopsError, MachineError
from glmops.recipe import Schedule, Train
from glmops.storage import read_json, write_json
from glmops.train.job import Job, read_error, read_job, write_error
from glmops.train.lean import leave_out
from glmops.train.order import plan_of
from glmops.train.plan.lengths import Work

STEPS = 3
_ACCUMULATION = 2
"""More forwards of a step change neither its peak nor the time of one."""
_LAST_WORDS = 500


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of one forward and backward: of the longest forward, and of a typical one."""

    longest: float
    typical: float


@dataclass(frozen=True, slots=True)
class Probed:
    """Peak bytes of the process (of the GPU, where there is one), and times by phase."""

    peak: int
    seconds: dict[str, Timed]


def probe(encoded: Path, root: Path, settings: Train, works: dict[str, Work]) -> Probed:
    """Run the train stage on the longest forwards of each phase.

    Args:
        encoded: What the encode stage wrote.
        works: Of each phase by its name, from encoded rows.
    Raises:
        GlmopsError: What the stage raised.
        MachineError: The process died.
    """
    with tempfile.TemporaryDirectory(prefix="glmops-plan-") as place:
        folder = Path(place)
        short = _prepared(encoded, folder, settings, works)
        job = Job(folder / "encoded", root, folder / "scratch", folder / "out", short)
        words = [sys.executable, "-m", "glmops.train.plan.probe", str(job.write(folder))]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if (error := read_error(folder, 0)) is not None:
            raise error
        if not (folder / "probed.json").is_file():
            raise died(done)
        told = read_json(folder / "probed.json")
    return Probed(told["peak"], _timed(told["ends"], short, works))


def died(done: subprocess.CompletedProcess[str]) -> MachineError:
    """What to say of a process that left neither a result nor an error."""
    said = done.stderr.strip()[-_LAST_WORDS:].rpartition("\n")[2]
    by_signal = done.returncode < 0
    how = f"signal {-done.returncode}" if by_signal else f"exit code {done.returncode}: {said}"
    return MachineError(
        "the probe",
        "its process died" + (", most likely for want of memory" if by_signal else ""),
        got=how,
        do="Use a smaller batch, or see what else the plan proposes.",
    )


def _prepared(encoded: Path, folder: Path, settings: Train, works: dict[str, Work]) -> Train:
    """Write the rows of the probe below ``folder``; the settings they are made for."""
    target = folder / "encoded"
    shutil.copytree(encoded / "tokenizer", target / "tokenizer")
    shutil.copy(encoded / "contract.json", target)
    shutil.copy(encoded / "dev.arrow", target)
    changes: dict[str, Any] = {"launch": settings.launch.alone()}
    for name, work in works.items():
        file = "base.arrow" if name == "base" else "train.arrow"
        whole = settings.base.schedule if name == "base" else settings.schedule  # type: ignore[union-attr]
        assert whole is not None
        schedule = _short(whole, work)
        _write(encoded / file, arranged(work, schedule, settings.seed), target / file)
        if name == "base":
            changes["base"] = settings.base.model_copy(update={"schedule": schedule})
        else:
            changes["schedule"] = schedule
    return settings.model_copy(update=changes)


def _short(whole: Schedule, work: Work) -> Schedule:
    return whole.model_copy(
        update={
            "max_steps": STEPS * len(_kinds(work)),
            "epochs": None,
            "batch_size": len(work.numbers),
            "batch_tokens": None,
            "accumulation": min(whole.accumulation, _ACCUMULATION),
            "warmup_steps": 0,
            "warmup_fraction": None,
        }
    )


def _kinds(work: Work) -> list[Sequence[int]]:
    """The longest forward, and the typical one where it has as many rows."""
    same = len(work.typical) == len(work.numbers)
    return [work.numbers, work.typical] if same else [work.numbers]


def arranged(work: Work, schedule: Schedule, seed: int) -> list[int]:
    """Row numbers, so that the order of an epoch makes exactly these forwards."""
    import numpy as np

    each = STEPS * schedule.accumulation
    forwards = [rows for kind in _kinds(work) for rows in [kind] * each]
    count = sum(map(len, forwards))
    order = np.zeros(count, np.int64)
    plan = plan_of(np.ones(count, np.int32), schedule, seed)
    for [places], rows in zip(plan.epoch(0), forwards, strict=True):
        order[places] = rows
    return [int(number) for number in order]


def _write(source: Path, order: list[int], path: Path) -> None:
    import pyarrow as pa

    table = pa.ipc.open_stream(pa.memory_map(str(source))).read_all()
    taken = table.take(order).combine_chunks()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, taken.schema) as stream:
        stream.write_table(taken)


def _timed(ends: list[float], settings: Train, works: dict[str, Work]) -> dict[str, Timed]:
    """Of each phase's steps the fastest but the first, which has the libraries' first calls."""
    found, done = {}, 0
    for name, work in works.items():
        accumulation = (
            settings.base.schedule.accumulation  # type: ignore[union-attr]
            if name == "base"
            else settings.schedule.accumulation
        )
        seconds = []
        for _ in _kinds(work):
            own = ends[done : done + STEPS]
            steps = [late - early for early, late in itertools.pairwise(own)]
            seconds.append(min(steps) / accumulation)
            done += STEPS
        found[name] = Timed(seconds[0], seconds[-1])
    return found


def main() -> None:
    """In the process of the probe."""
    path = Path(sys.argv[1])
    # When memory runs out, the system ends this process before any other.
    Path("/proc/self/oom_score_adj").write_text("1000")

    job, ends = read_job(path), list[float]()
    leave_out(job.settings, job.root)
    from glmops.train import zero
    from glmops.train.candidate import Place, read_encoded, train_candidate
    from glmops.train.peak import peak_ever

    if job.settings.launch.engine == "deepspeed":
        zero.join_alone()
    try:
        train_candidate(
            read_encoded(job.encoded),
            job.settings,
            Place(job.root, job.scratch, job.out),
            on_step=lambda: ends.append(time.perf_counter()),
        )
    except GlmopsError as error:
        write_error(path.parent, 0, error)
        sys.exit(error.exit_code)
    write_json(path.parent / "probed.json", {"peak": peak_ever(), "ends": ends})


if __name__ == "__main__":
    main()
