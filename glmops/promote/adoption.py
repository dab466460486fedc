"""The run of a training that MLflow saw live, given to the candidate that came of it."""

from __future__ import annotations

from typing import Any

from glmops.promote.connection import Client, find_experiment, set_tags
from glmops.promote.tracking import DIGEST, ROLE

TRAINING = "glmops.training"
"""The hash of a training's inputs: a candidate's lineage names it, too."""
ATTEMPT = "glmops.attempt"
"""Of several trainings with the same inputs, which; one that was killed and goes on stays one."""

Point = tuple[str, int]
"""Name and step of a metric: there is one value for each in a run."""


def known_points(client: Client, run: Any) -> set[Point]:
    """What a run's curves hold already."""
    names = [name for name in run.data.metrics if "/" in name]
    return {
        (name, point.step)
        for name in names
        for point in client.get_metric_history(run.info.run_id, name)
    }


def adopt(client: Client, recipe: str, training: str, digest: str, tags: dict[str, str]) -> None:
    """Give the run of this training, if it was seen live, to the candidate that came of it."""
    experiment = find_experiment(client, recipe)
    runs = runs_with(client, experiment, TRAINING, training) if experiment else []
    free = [run for run in runs if DIGEST not in run.data.tags]
    if not free:
        return
    run = max(free, key=lambda each: each.info.start_time)
    # Its status first: a run with a digest counts as registered as soon as it is finished.
    client.update_run(run.info.run_id, status="RUNNING", name=digest[:12])
    set_tags(client, run.info.run_id, {DIGEST: digest, ROLE: "candidate", **tags})


def runs_with(client: Client, experiment: str, tag: str, value: str) -> list[Any]:
    return list(client.search_runs([experiment], f"tags.`{tag}` = '{value}'"))
