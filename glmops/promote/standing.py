"""Where a recipe stands: its champion, the rules of this moment, and the verdicts that hold now.

A verdict belongs to (digest, rules, opponent). When the champion or the rules change, the gate
decides again from stored scores; nothing is trained for that, and nothing answered unless a new
champion was scored on other test rows.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from glmops.errors import InputError, RecipeError, RefusedError
from glmops.promote import ledger, package, registry
from glmops.promote.gate import Verdict, compares, decide, verdict_from_json
from glmops.promote.ledger import Entry
from glmops.promote.package import Package
from glmops.promote.rescoring import package_of, rescored
from glmops.recipe import Promote, load_recipe
from glmops.storage import Layout, read_json, sha256_json

SHORTEST_PREFIX = 6


@dataclass(frozen=True, slots=True)
class Standing:
    """A recipe's ledger entries, oldest first, beside the rules that its file holds now."""

    recipe: str
    rules: Promote
    rules_hash: str
    entries: tuple[Entry, ...]

    @property
    def champion(self) -> str | None:
        return next(reversed(champions(self.entries)), None)

    @property
    def previous(self) -> str | None:
        """The champion before this one: what a rollback brings back."""
        return next(iter(champions(self.entries)[-2:-1]), None)

    @property
    def turn(self) -> int:
        """Sequence of the last change of champion, 0 before the first."""
        acts = (entry.sequence for entry in self.entries if entry.kind in ("promote", "rollback"))
        return max(acts, default=0)

    def opponent(self, digest: str) -> str | None:
        """Whom a digest has to face: the champion; the champion itself, whom it replaced."""
        if digest != self.champion:
            return self.champion
        mine = [e.champion for e in self.entries if e.kind == "promote" and e.digest == digest]
        return mine[-1]

    def gate_entry(self, digest: str) -> Entry | None:
        """The gate's entry on a digest for the present rules and opponent, if it has decided."""
        opponent = self.opponent(digest)
        for entry in reversed(self.entries):
            judged = (entry.kind, entry.digest, entry.rules_hash, entry.champion)
            if judged == ("gate", digest, self.rules_hash, opponent):
                return entry
        return None

    def verdict(self, digest: str) -> Verdict | None:
        entry = self.gate_entry(digest)
        return verdict_from_json((entry.payload or {})["verdict"]) if entry else None


def standing(root: Path, recipe: str) -> Standing:
    """Reads the recipe's file and the ledger.

    Raises:
        RecipeError: No such recipe, or its file cannot be used.
    """
    rules = load_recipe(root, recipe).promote
    return Standing(recipe, rules, rules_hash(rules), tuple(ledger.read(root, recipe)))


def rules_hash(rules: Promote) -> str:
    return sha256_json(rules.model_dump(mode="json"))


def champions(entries: Iterable[Entry]) -> list[str]:
    """The line of champions: a promotion adds one, a rollback takes the last away."""
    line: list[str] = []
    for entry in entries:
        if entry.kind == "promote":
            line.append(entry.digest)
        elif entry.kind == "rollback":
            line.pop()
    return line


def resolve(now: Standing, prefix: str) -> str:
    """The one digest that starts with ``prefix``, among all that the ledger knows.

    Raises:
        RecipeError: Too short, unknown or ambiguous; lists what is there.
    """
    where = f"digest of {now.recipe}"
    known = list(dict.fromkeys(entry.digest for entry in now.entries))
    found = [digest for digest in known if digest.startswith(prefix.lower())]
    if len(prefix) >= SHORTEST_PREFIX and len(found) == 1:
        return found[0]
    listed = ", ".join(digest[:12] for digest in (found or known))
    there = f"There is: {listed}." if listed else f"Run `glmops run {now.recipe}` first."
    if len(prefix) < SHORTEST_PREFIX:
        what = f"expected at least {SHORTEST_PREFIX} characters"
    else:
        what = "more than one digest starts like this" if found else "no such digest"
    raise RecipeError(where, what, got=prefix, do=there)


def judge(
    root: Path, now: Standing, candidate: Package, evaluation: Path, prepared: Path
) -> Verdict:
    """The gate on a candidate's evaluation, against the scores of whom it has to face.

    Where that one was scored on other rows, and a rule compares, it is scored again on these: that
    can take as long as the candidate's own evaluation.

    Args:
        evaluation: The folder with the candidate's scores.
        prepared: Where the rows lie that it was evaluated on.
    Raises:
        RefusedError: A rule compares, and whom it has to face cannot be scored on these rows.
    """
    mine = package.evaluation(evaluation)
    opponent = now.opponent(candidate.digest)
    theirs, same_test = None, True
    if opponent is not None:
        needed = bool(compares(now.rules))
        stored = package_of(root, now.recipe, opponent)
        same_test = read_json(stored / "manifest.json")["test"] == candidate.test_set
        if same_test or not needed:
            theirs = package.scores(stored)
        else:
            theirs = rescored(root, now.rules, opponent, stored, candidate, prepared)
            same_test = True
    return decide(
        mine.scores,
        theirs,
        now.rules,
        same_test=same_test,
        baselines=mine.baselines,
        slices=mine.slices,
    )


def present_verdict(root: Path, now: Standing, digest: str, actor: str) -> Verdict:
    """The verdict for the present rules and champion; decided, and recorded, when there is none.

    Raises:
        RefusedError: The gate would have to decide anew, but the candidate was never stored.
    """
    if known := now.verdict(digest):
        return known
    try:
        folder = registry.find_package(root, now.recipe, digest)
    except InputError:
        raise RefusedError(
            f"{now.recipe} {digest[:12]}",
            "its verdict was for other rules or another champion, and its package is not stored",
            do=f"Run `glmops run {now.recipe}` again: the gate then decides anew.",
        ) from None
    candidate = Package(digest, read_json(folder / "manifest.json"))
    rows = Layout(root, now.recipe).prepared
    verdict = judge(root, now, candidate, folder / "evaluation", rows)
    registry.mark(root, now.recipe, digest, verdict.outcome)
    record_gate(root, now, digest, verdict, actor)
    return verdict


def record_gate(root: Path, now: Standing, digest: str, verdict: Verdict, actor: str) -> bool:
    """One ledger entry per (digest, rules, opponent); says whether it was new."""
    entry = Entry(
        kind="gate",
        recipe=now.recipe,
        digest=digest,
        actor=actor,
        decision=verdict.outcome,
        champion=now.opponent(digest),
        rules_hash=now.rules_hash,
        reason="; ".join(verdict.reasons),
        payload={"verdict": verdict.as_json()},
    )
    key = ("gate", digest, now.rules_hash, entry.champion)
    return ledger.append(
        root,
        entry,
        unless=lambda entries: any(
            (e.kind, e.digest, e.rules_hash, e.champion) == key for e in entries
        ),
    )


def present_actor() -> str:
    """Who runs this: GLMOPS_ACTOR, else the login name."""
    if named := os.environ.get("GLMOPS_ACTOR"):
        return person(named)
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in the password file
        return f"uid-{os.getuid()}"


def person(name: str) -> str:
    """A name fit for the ledger."""
    clean = " ".join(name.split())
    if not clean or len(clean) > 200 or not clean.isprintable():
        do = "Give a name of 1 to 200 printable characters, e.g. `--as alice`."
        raise RecipeError("actor", "not a name", got=name, do=do)
    return clean
