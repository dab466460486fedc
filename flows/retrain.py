"""The Prefect flow: one task for each stage of DVC's graph, then registration.

DVC decides what runs; Prefect shows it, tries again after a fault of the machine, and keeps the
history. The stages are not written here a second time. Importing this imports Prefect.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import Flow, Task, flow, get_client, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelled, Completed, Crashed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from flows import environment, graph, workspace
from flows.faults import StageDied
from flows.registry import Registry, of_the_project
from flows.stopping import Stop, end_processes
from glmops.errors import GlmopsError, MachineError
from glmops.recipe import load_recipe
from glmops.storage import Layout, project_root

if TYPE_CHECKING:
    from prefect.client.schemas.objects import TaskRun
    from prefect.futures import PrefectFuture

    from flows.workspace import Workspace
    from glmops.promote.promotion import Registration

RETRY_DELAY_SECONDS = 3


@dataclass
class Trip:
    """What one run did, written down as it goes; the driver reads it when the flow has ended."""

    did: dict[str, graph.Verdict] = field(default_factory=dict)
    registration: Registration | None = None
    fault: GlmopsError | None = None
    stop: Stop = field(default_factory=Stop)


def retrain_flow(
    root: Path | None = None,
    registry: Registry | None = None,
    say: Callable[[str], None] | None = None,
    trip: Trip | None = None,
) -> Flow[..., Any]:
    """The flow as a run of ``glmops`` or a deployment uses it.

    Args:
        root: The project; by default the one around the current folder, when the flow runs.
        registry: Where the candidate goes; by default the project's own.
        say: Takes a line for people; by default the flow run's log.
        trip: Filled with what the run did.
    """

    @flow(
        name="retrain",
        flow_run_name="{recipe}",
        task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]
        persist_result=False,
    )
    def retrain(
        recipe: str,
        overrides: list[str] = [],  # noqa: B006  never changed; Prefect's form shows the default
        raw: str | None = None,
        from_stage: str | None = None,
    ) -> State[Any]:
        """Bring every stage of a recipe up to date and register what comes out.

        Args:
            recipe: The name of a file in recipes/.
            overrides: Values for this run only, each as section.key=value.
            raw: Other raw rows, for this run only.
            from_stage: Run again from this stage on.
        """
        os.environ.update(environment.QUIET)
        mine = trip or Trip()
        tell = say or get_run_logger().info
        try:
            with mine.stop.listening():
                plan = workspace.planned(root or project_root(), recipe, overrides, raw)
                with workspace.opened(plan) as here:
                    return _follow(here, from_stage, registry or of_the_project(), tell, mine)
        except GlmopsError as error:
            mine.fault = error
            return Failed(message=str(error))

    return retrain


def close_killed_runs(key: str) -> None:
    """Say of earlier runs of this name that their process is gone, if Prefect shows them running.

    Only where nobody else's runs are, and only by the holder of the key's lock.
    """
    alive = FlowRunFilterStateType(
        any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    )
    filters = FlowRunFilter(
        name=FlowRunFilterName(any_=[key]), state=FlowRunFilterState(type=alive)
    )
    with get_client(sync_client=True) as client:
        for left in client.read_flow_runs(flow_run_filter=filters):
            gone: State[Any] = Crashed(message="Its process was killed.")
            client.set_flow_run_state(left.id, gone, force=True)


def _follow(
    here: Workspace,
    from_stage: str | None,
    registry: Registry,
    say: Callable[[str], None],
    trip: Trip,
) -> State[Any]:
    """The stages in order, each when the one before has ended well; then registration."""
    order = graph.stages(here.path, here.name)
    again = graph.following(order, from_stage)
    futures: dict[str, PrefectFuture[Any]] = {}
    for address, before in order.items():
        say(f"stage    {address}")

        def bring_up_to_date(address: str = address) -> str:
            verdict = graph.reproduce(here.path, address, again=address in again)
            trip.did[address] = verdict
            if verdict != "run":
                say(f"         {_WITHOUT_RUNNING[verdict]}")
            return _STATE_NAMES[verdict]

        step = _step(address, bring_up_to_date, say, trip)
        futures[address] = step.submit(wait_for=[futures[name] for name in before])
        if (state := _outcome(futures[address], trip)) is not None:
            return state

    def register() -> str:
        layout, recipe = Layout(here.path, here.name), load_recipe(here.path, here.name)
        with Console(stderr=True).status("registering the candidate"):
            found = registry.register(here.root, layout, recipe, overrides=here.recorded)
        trip.registration = found
        return "Completed" if found.verdict.passed else "Refused"

    step = _step("register", register, say, trip)
    last = step.submit(wait_for=list(futures.values()))
    if (state := _outcome(last, trip)) is not None:
        return state
    reasons = trip.registration.verdict.reasons if trip.registration else ()
    return Completed(name=last.state.name, message="; ".join(reasons))


_WITHOUT_RUNNING = {"keep": "up to date", "restore": "ran before: taken from the cache"}
_STATE_NAMES: Mapping[graph.Verdict, str] = {
    "keep": "Kept",
    "restore": "Restored",
    "run": "Completed",
}


def _step(
    name: str, work: Callable[[], str], say: Callable[[str], None], trip: Trip
) -> Task[..., Any]:
    """A task that does ``work``, which gives the name of its final state.

    Its result is not kept by Prefect: DVC knows what is up to date. A fault of the machine is tried
    once more; bad input and a refusal stay what they are, and so does a stop.
    """

    def once_more(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
        fault = trip.fault
        if fault is None or fault.exit_code != 1 or trip.stop.requested.is_set():
            return False
        say(f"{fault} Trying once more in {RETRY_DELAY_SECONDS} seconds.")
        return True

    @task(
        name=name,
        task_run_name=name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=1,
        retry_delay_seconds=RETRY_DELAY_SECONDS,
        retry_condition_fn=once_more,
    )
    def step() -> State[Any]:
        trip.fault = None
        if trip.stop.requested.is_set():
            return Cancelled(message="Stopped before it began.")
        try:
            return Completed(name=work())
        except GlmopsError as error:
            # A terminal's Ctrl-C may end the stage a moment before it reaches this process.
            if isinstance(error, StageDied) and trip.stop.requested.wait(timeout=1.0):
                return Cancelled(message="Stopped.")
            trip.fault = error
            return Failed(message=str(error))

    return step


def _outcome(future: PrefectFuture[Any], trip: Trip) -> State[Any] | None:
    """Wait for a step, ending its processes when asked to stop; the flow's last state if it ends.

    The main thread only waits here, so that signals reach it at once.
    """
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    while not ended.wait(timeout=0.2):
        if trip.stop.requested.is_set():
            end_processes(trip.stop.grace_seconds)
    future.wait()
    state = future.state
    if trip.stop.requested.is_set() or state.is_cancelled():
        return Cancelled(message="Stopped: its processes were ended. The same command goes on.")
    if state.is_completed():
        return None
    if trip.fault is None:  # not an error that we raise on purpose: a fault in our own code
        trip.fault = MachineError("flow", state.message or state.name or "failed", do="Report it.")
    return Failed(message=str(trip.fault))


retrain = retrain_flow()
