"""The driver behind `glmops run`: look first, and start Prefect only when there is work for it.

A run with nothing to do loads neither Prefect, MLflow nor torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows import environment, graph, stopping, workspace
from flows.registry import of_the_project
from glmops.errors import MachineError
from glmops.recipe import load_recipe
from glmops.storage import Layout

if TYPE_CHECKING:
    from flows.registry import Registry
    from flows.workspace import Workspace
    from glmops.promote.promotion import Registration

REFUSED = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did. ``executed`` and ``kept`` are stage addresses such as `train@demo`."""

    registration: Registration | None
    executed: list[str]
    kept: list[str]
    exit_code: int
    forecast: dict[str, graph.Verdict] = field(default_factory=dict)


def run(
    root: Path,
    name: str,
    *,
    overrides: Sequence[str] = (),
    raw: str | None = None,
    from_stage: str | None = None,
    dry: bool = False,
    smoke: bool = False,
    say: Callable[[str], None],
    registry: Registry | None = None,
) -> Outcome:
    """Bring every stage of recipe ``name`` up to date and register the candidate.

    Args:
        overrides: Texts of the form section.key=value, for this run only.
        raw: Rows to use instead of those in params.yaml, for this run only.
        from_stage: Run this stage and what follows it, whether or not anything changed.
        dry: Only forecast.
        smoke: Run the recipe's smoke run, which is a recipe called NAME-smoke.
        say: Takes a line for people.
        registry: Where the candidate goes; the project's own by default.
    Returns:
        exit_code 0: registered. 3: registered, but the gate refused it. 130: stopped.
    Raises:
        RecipeError: Bad arguments; nothing was written.
        StageError: A stage refused its input; carries the stage's own message and exit code.
        MachineError: A stage died, or a lock stayed taken.
    """
    root = root.resolve()
    if smoke:
        name = workspace.smoke_of(root, name)
        # The same on every machine; and two processes need no two GPUs.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    environment.apply(root)
    plan, stop = workspace.planned(root, name, overrides, raw), stopping.Stop()
    try:
        with stop.interrupting(), workspace.opened(plan) as here:
            again = frozenset[str]()
            if from_stage is not None:
                again = graph.following(graph.stages(here.path, name), from_stage)
            expected = graph.forecast(here.path, name, again=again)
            kept = [address for address, verdict in expected.items() if verdict == "keep"]
            if dry:
                for address, verdict in expected.items():
                    say(f"{verdict:<8} {address}")
                return Outcome(None, [], kept, 0, expected)
            stop.check()
            registry = registry or of_the_project()
            if len(kept) == len(expected):
                return _registered(here, registry, kept, expected, say)
            arguments = {"overrides": list(overrides), "raw": here.raw, "from_stage": from_stage}
            return _through_prefect(here, registry, expected, arguments, say, stop)
    except KeyboardInterrupt:
        say("stopped")
        return Outcome(None, [], [], stopping.STOPPED)


def _registered(
    here: Workspace,
    registry: Registry,
    kept: list[str],
    expected: dict[str, graph.Verdict],
    say: Callable[[str], None],
) -> Outcome:
    """No stage has anything to do: no server is needed, and perhaps no registration either."""
    layout, recipe = Layout(here.path, here.name), load_recipe(here.path, here.name)
    say(f"kept     {', '.join(kept)}")
    found = registry.already_registered(here.root, layout, recipe, overrides=here.recorded)
    if found is None:
        say("register")
        with Console(stderr=True).status("registering the candidate"):
            found = registry.register(here.root, layout, recipe, overrides=here.recorded)
    return Outcome(found, [], kept, _code(found), expected)


def _through_prefect(
    here: Workspace,
    registry: Registry,
    expected: dict[str, graph.Verdict],
    arguments: Mapping[str, object],
    say: Callable[[str], None],
    stop: stopping.Stop,
) -> Outcome:
    from flows import server

    todo = ", ".join(f"{address} ({verdict})" for address, verdict in expected.items())
    say(f"forecast {todo}")
    with server.available(stop):
        from httpx import HTTPError

        from flows.retrain import Trip, close_killed_runs, retrain_flow

        trip = Trip(stop=stop)
        _keep_off_the_console()
        if environment.is_private():
            close_killed_runs(here.key)
        flow = retrain_flow(here.root, registry, say, trip).with_options(flow_run_name=here.key)
        try:
            with stop.listening():
                stop.check()
                state: Any = flow(recipe=here.name, **arguments, return_state=True)
        except HTTPError as error:
            what = f"its server does not answer any more ({error})"
            raise MachineError("Prefect", what, do="Give the same command again.") from error
    executed = [address for address, verdict in trip.did.items() if verdict == "run"]
    kept = [address for address in trip.did if address not in executed]
    stopped = state.is_cancelled() or stop.requested.is_set()
    if trip.registration is None and not stopped:
        raise trip.fault or MachineError("flow", str(state), do="Report it.")
    say(f"ran      {', '.join(executed) or 'no stage'}; kept {', '.join(kept) or 'none'}")
    if trip.registration is None:
        say("stopped  The same command goes on from here: finished stages stay.")
        return Outcome(None, executed, kept, stopping.STOPPED, expected)
    return Outcome(trip.registration, executed, kept, _code(trip.registration), expected)


def _keep_off_the_console() -> None:
    """Prefect's accounts of our own failures go to its database; people get one line from us."""
    import logging

    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).propagate = False


def _code(found: Registration) -> int:
    return 0 if found.verdict.passed else REFUSED
