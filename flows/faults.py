"""Why a stage did not finish: its own words, else its exit code, else DVC's error."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from glmops.errors import GlmopsError, MachineError
from glmops.storage import read_json

STAGE_ERROR = "GLMOPS_STAGE_ERROR"
"""Names the file where a stage process writes why it refused: DVC makes 255 of every exit code."""


class StageError(GlmopsError):
    """What a stage process said before it ended, with the exit code it ended with."""

    def __init__(self, stage: str, message: str, exit_code: int) -> None:
        Exception.__init__(self, message)
        self.where, self.what, self.do = stage, message, ""
        self.code = exit_code

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        return self.code


class StageDied(MachineError):
    """A stage process ended without a word: killed, out of memory, or a fault in its code."""


def explained(error: Exception, address: str, said: Path) -> GlmopsError:
    """DVC's ``error`` about the stage ``address`` as ours; ``said`` is the stage's error file."""
    from dvc.stage.exceptions import StageCmdFailedError

    cause = root_cause(error)
    if said.is_file():
        record = read_json(said)
        return StageError(address, record["message"], record["exit_code"])
    if isinstance(cause, StageCmdFailedError):
        return StageDied(
            address,
            f"the stage's process {_how_it_died(str(cause))}",
            do="See what it printed, then give the same command again: finished stages stay.",
        )
    return MachineError(
        address,
        f"DVC could not finish this stage ({one_line(cause)})",
        do="Mend that and give the same command again: finished stages stay.",
    )


def root_cause(error: BaseException) -> BaseException:
    """DVC wraps the error of a stage in one of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def one_line(error: BaseException) -> str:
    """DVC's message without its line breaks, with the line of a YAML fault, which it leaves out."""
    line = getattr(getattr(error.__cause__, "problem_mark", None), "line", None)
    place = "" if line is None else f", line {line + 1}"
    return " ".join(str(error).split()) + place


def _how_it_died(message: str) -> str:
    """DVC says `… exited with N`: N < 0 is a signal, and so is N > 128 when a shell reports it."""
    found = re.search(r"exited with (-?\d+)$", message)
    code = int(found[1]) if found else 1
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        name = signal.Signals(number).name
        hint = ", as when memory runs out" if name == "SIGKILL" else ""
        return f"was ended by {name}{hint}"
    return f"ended with exit code {code} and gave no reason"
