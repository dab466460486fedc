"""The one wrapper around DVC: the stages in order, what a run would do, and doing one of them.

Everything that glmops knows of DVC's inside is in this file; tests/flows/test_graph.py holds it to
what ``dvc repro`` does. DVC is imported inside the functions, so asking costs half a second.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from flows.environment import stage_settings
from flows.faults import STAGE_ERROR, explained, one_line, root_cause
from glmops.errors import InputError, MachineError, RecipeError, lookup

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

T = TypeVar("T")
Order = dict[str, tuple[str, ...]]
"""Stage address → the stages it waits for, in running order."""

Verdict = Literal["keep", "restore", "run", "run?"]
"""keep: up to date. restore: ran before, outputs come from the cache. run: its command will start.
run?: something before it is not up to date, so nobody can know yet."""

LOCK_PATIENCE_SECONDS = 60.0
"""How long to wait for another DVC process in the same folder. DVC itself gives up after three."""


_ONE_AT_A_TIME = threading.RLock()


def stages(workspace: Path, name: str) -> Order:
    """The stages of recipe ``name`` in running order.

    Raises:
        RecipeError: dvc.yaml or params.yaml cannot be read, or has no stage for this recipe.
        MachineError: Another DVC process kept the folder locked.
    """

    def question(repo: Repo) -> Order:
        return {stage.addressing: before for stage, before in in_order(repo, name)}

    return ask(workspace, question)


def following(order: Order, first: str | None) -> frozenset[str]:
    """The stage called ``first`` (the word before ``@``) and every stage that builds on it."""
    if first is None:
        return frozenset()
    words = {address.rpartition(":")[2].partition("@")[0]: address for address in order}
    found = {lookup(words, first, "--from")}
    for address, before in order.items():
        if found.intersection(before):
            found.add(address)
    return frozenset(found)


def forecast(
    workspace: Path, name: str, *, again: frozenset[str] = frozenset()
) -> dict[str, Verdict]:
    """What a run would do with each stage, in running order. Nothing is written.

    Args:
        again: Stages to run whether or not anything changed, as ``following`` gives them.
    """

    def question(repo: Repo) -> dict[str, Verdict]:
        verdicts: dict[str, Verdict] = {}
        for stage, before in in_order(repo, name):
            address = stage.addressing
            if address in again:
                verdicts[address] = "run"
            elif any(verdicts[earlier] != "keep" for earlier in before):
                verdicts[address] = "run?"
            else:
                verdicts[address] = _verdict(stage)
        return verdicts

    return ask(workspace, question)


def reproduce(workspace: Path, address: str, *, again: bool = False) -> Verdict:
    """Bring one stage up to date whose earlier stages already are; says what was done with it.

    Call it in running order only: DVC takes a stage for up to date when what it builds on is stale.
    Not in the main thread if Ctrl-C is to work: DVC ignores SIGINT there while a command runs.

    Raises:
        StageError: The stage refused and said why; carries its message and its exit code.
        StageDied: It ended without a word.
        MachineError: DVC's lock stayed taken, or DVC failed.
    """
    from dvc.exceptions import ReproductionError

    expected: Verdict = "run"
    if not again:
        expected = ask(workspace, lambda repo: _verdict(repo.stage.collect(address)[0]))
    with tempfile.TemporaryDirectory(prefix="glmops-") as scratch:
        said = Path(scratch) / "error.json"
        settings = {**stage_settings(), STAGE_ERROR: str(said)}

        def question(repo: Repo) -> bool:
            done = repo.reproduce([address], single_item=True, force=again, run_env=settings)
            return bool(done)

        try:
            done = ask(workspace, question)
        except ReproductionError as error:
            raise explained(error, address, said) from error
    return expected if done else "keep"


def ask(workspace: Path, question: Callable[[Repo], T]) -> T:
    """``question`` put to DVC under its lock, waiting for other DVC processes in the folder.

    DVC reads names, and looks for its run cache, relative to the current folder; so that is the
    workspace meanwhile, for the whole process. One question at a time.
    """
    from dvc.config import ConfigError
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    # Its remarks ("Running stage …", "To track the changes …") would stand between our lines.
    logging.getLogger("dvc").setLevel(logging.WARNING)
    if not (workspace / ".dvc").is_dir():
        raise RecipeError(workspace, "no .dvc folder here", do="Restore it from git.")
    in_git = any((folder / ".git").exists() for folder in (workspace, *workspace.parents))
    settings = None if in_git else {"core": {"no_scm": True}}
    deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        try:
            with _ONE_AT_A_TIME, chdir(workspace), Repo(str(workspace), config=settings) as repo:
                _make_patient(repo)
                with lock_repo(repo):
                    return question(repo)
        except ConfigError as error:
            raise RecipeError(
                workspace / ".dvc", f"DVC refuses its settings ({one_line(error)})", do="Mend them."
            ) from error
        except DvcException as error:
            # Besides the folder's lock there is one for each path; DVC does not wait for that.
            if not isinstance(root_cause(error), LockError):
                raise
            if time.monotonic() > deadline:
                raise _busy(workspace) from error
        time.sleep(0.5)


def _make_patient(repo: Repo) -> None:
    """Wait for the folder's lock as long as we say, also when DVC takes it again after a command.

    Giving up at that second moment would throw away what the command has just trained.
    """
    from dvc.lock import LockError

    try_for_three_seconds = repo.lock.lock

    def wait() -> None:
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                try_for_three_seconds()
                return
            except LockError:
                if time.monotonic() > deadline:
                    raise

    repo.lock.lock = wait


def in_order(repo: Repo, name: str) -> list[tuple[Stage, tuple[str, ...]]]:
    import networkx
    from dvc.exceptions import DvcException

    try:
        graph = repo.index.graph
    except DvcException as error:
        raise RecipeError(
            "dvc.yaml", f"DVC cannot read the stages ({one_line(error)})", do="Correct the line."
        ) from error
    order = reversed(list(networkx.topological_sort(graph)))
    ours = {stage: stage.addressing for stage in order if stage.addressing.endswith(f"@{name}")}
    if not ours:
        raise RecipeError("dvc.yaml", "no stage for this recipe", got=name, do="Add one.")
    return [
        (stage, tuple(sorted(ours[before] for before in graph.successors(stage) if before in ours)))
        for stage in ours
    ]


def _verdict(stage: Stage) -> Verdict:
    """DVC's own decision for one stage, taken in DVC's order but without writing anything.

    ``repro --dry`` is no substitute: it does not hash what changed, so it reports a restore for
    values that never ran. Read from dvc/stage/cache.py (StageCache.restore) at 3.67.1.
    """
    from dvc.dependency.base import DependencyDoesNotExistError
    from dvc.stage.serialize import to_single_stage_lockfile

    if not stage.changed():
        return "keep"
    cache = stage.repo.stage_cache
    same_inputs = not stage.changed_stage() and stage.deps_cached()
    if same_inputs and all(out.hash_info for out in stage.outs):
        record = to_single_stage_lockfile(stage)
    else:
        try:
            stage.save_deps()
        except DependencyDoesNotExistError as error:
            raise InputError(stage.addressing, one_line(error), do="Restore it.") from error
        record = cache._load(stage)
    if record is None:
        return "run"
    restorable = cache._create_stage(record, wdir=stage.wdir).outs_cached()
    return "restore" if restorable else "run"


def _busy(workspace: Path) -> MachineError:
    return MachineError(
        workspace,
        f"another DVC process has held this folder for over {LOCK_PATIENCE_SECONDS:.0f} seconds",
        do="Wait for it to end (`fuser .dvc/tmp/lock` finds it), then give the command again.",
    )
