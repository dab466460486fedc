"""The driver behind `glmops bakeoff`: every method with every seed is a run like any other.

So each is snapshotted, cached, judged and registered as one; a bake-off that was stopped goes on,
and one whose runs are all there reads what they left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows import run as driver
from flows import server, stopping, workspace
from glmops.errors import GlmopsError, RecipeError, lookup
from glmops.promote.bakeoff.choice import COSTS
from glmops.promote.bakeoff.page import render
from glmops.promote.bakeoff.result import Bakeoff, result_of
from glmops.promote.bakeoff.shown import document
from glmops.promote.bakeoff.trials import FAILED, Trial, read_made
from glmops.recipe import load_recipe, recipe_values, smoked
from glmops.recipe.methods import settings_for
from glmops.storage import Layout, write_json, write_text

if TYPE_CHECKING:
    from flows.registry import Registry
    from flows.workspace import Workspace

OWN_KEYS = ("train.method", "train.seed")
OF_ONE_METHOD = ("encode", "train")
"""What a setting of one method may be about: every method answers the same test rows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A run to come. ``plan`` says where, and that its settings fit the recipe."""

    method: str
    seed: int
    settings: tuple[str, ...]
    plan: Workspace


def bakeoff(
    root: Path,
    name: str,
    *,
    methods: Sequence[str],
    seeds: Sequence[int] = (),
    settings: Sequence[str] = (),
    metrics: Sequence[str] = (),
    cost: str = "seconds",
    smoke: bool = False,
    say: Callable[[str], None],
    registry: Registry | None = None,
) -> Bakeoff | None:
    """Run the methods, and write what they came to below reports/NAME/bakeoff/.

    Args:
        seeds: Of training; empty: the recipe's own.
        settings: As for ``-S``, for all runs, or for one method's as METHOD:section.key=value.
        metrics: What decides, in this order; empty: the metrics that the recipe has floors for.
        cost: Between methods that tie: ``seconds``, ``memory`` or ``size``.
        say: Takes a line for people.
    Returns:
        None when somebody stopped it. A run that failed is in the result, with its message.
    Raises:
        RecipeError: Bad arguments, a method that does not fit the recipe: nothing has run.
        InputError: The test rows changed between two runs.
    """
    root = root.resolve()
    lookup(COSTS, cost, "--cheaper-by")
    name = workspace.smoke_of(root, name) if smoke else name
    recipe = load_recipe(root, name)
    deciding = tuple(metrics) or tuple(recipe.promote.floors)
    for metric in deciding:
        if metric.partition("/")[0] not in recipe.prepare.tasks:
            known = ", ".join(f"{task}/…" for task in recipe.prepare.tasks)
            raise RecipeError("--metric", "no task of this recipe", got=metric, do=f"Use {known}.")
    seeds = tuple(dict.fromkeys(seeds)) or (recipe.train.seed,)
    entries = planned(root, name, tuple(dict.fromkeys(methods)), seeds, settings)
    trials: list[Trial] = []
    try:
        with server.shared():
            for number, entry in enumerate(entries, 1):
                say(f"bake-off {number} of {len(entries)}: {entry.method}, seed {entry.seed}")
                if (trial := _run(root, name, entry, say, registry)) is None:
                    return None
                trials.append(trial)
    except KeyboardInterrupt:  # between two runs
        say("stopped")
        return None
    result = result_of(name, trials, deciding, cost, smoke=_is_smoke(root, name))
    place = folder(root, name)
    write_text(place / "bakeoff.html", render(result, root, place))
    write_json(place / "bakeoff.json", document(result))
    return result


def folder(root: Path, name: str) -> Path:
    return Layout(root, name).reports("bakeoff")


def planned(
    root: Path, name: str, methods: Sequence[str], seeds: Sequence[int], settings: Sequence[str]
) -> list[Entry]:
    """Every run, checked before the first begins: method by method, seed by seed.

    Raises:
        RecipeError: No method, an unknown one, or settings that do not fit.
    """
    if not methods:
        raise RecipeError("--methods", "names no method", do="Such as --methods lora,full.")
    own = smoked(root, name) or name
    values, recipe = recipe_values(root, own), load_recipe(root, name)
    asked = [_setting(each, methods) for each in settings]
    entries = []
    for method in methods:
        brought = settings_for(own, values, method, smoke=own != name)
        given = [text for only, text in asked if only in (None, method)]
        for seed in seeds:
            seeded = [] if seed == recipe.train.seed else [f"train.seed={seed}"]
            texts = (*brought, *given, *seeded)
            entries.append(Entry(method, seed, texts, workspace.planned(root, name, texts, None)))
    return entries


def _setting(text: str, methods: Sequence[str]) -> tuple[str | None, str]:
    """(the one method it is for, the setting)."""
    key = text.partition("=")[0]
    only, colon, _ = key.partition(":")
    setting = text[len(only) + 1 :] if colon else text
    key = key.removeprefix(f"{only}:").strip()
    if colon and only.strip() not in methods:
        do = f"Methods here: {', '.join(methods)}."
        raise RecipeError("-S", "is for a method that does not take part", got=text, do=do)
    if key in OWN_KEYS:
        raise RecipeError(f"-S {key}", "is what a bake-off sets itself", do="Leave it out.")
    if colon and key.partition(".")[0] not in OF_ONE_METHOD:
        do = f"One method's settings are in: {', '.join(OF_ONE_METHOD)}."
        raise RecipeError("-S", "must be the same for every method", got=text, do=do)
    return (only.strip() if colon else None), setting


def _run(
    root: Path, name: str, entry: Entry, say: Callable[[str], None], registry: Registry | None
) -> Trial | None:
    """One run, as a trial; None when it was stopped."""
    where = entry.plan.path.relative_to(root).as_posix()
    try:
        outcome = driver.run(
            root, name, overrides=entry.settings, smoke=_is_smoke(root, name), say=say,
            registry=registry,
        )  # fmt: skip
        if outcome.exit_code == stopping.STOPPED or outcome.registration is None:
            return None
        made = read_made(Layout(entry.plan.path, name), entry.method)
    except GlmopsError as error:
        say(f"failed   {error}")
        return Trial(entry.method, entry.seed, entry.settings, FAILED, (str(error),), where)
    verdict = outcome.registration.verdict
    return Trial(
        entry.method, entry.seed, entry.settings, verdict.outcome, tuple(verdict.reasons), where,
        outcome.registration.digest, made,
    )  # fmt: skip


def _is_smoke(root: Path, name: str) -> bool:
    return smoked(root, name) is not None
