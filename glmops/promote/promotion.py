"""The act: register a candidate, promote one, roll back; and what stands now.

Every step finds what is there by the digest before it makes it. So a process that was killed
between any two steps is simply run again, and ends the same. The ledger is the authority; MLflow's
aliases follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glmops.errors import InputError, RefusedError
from glmops.promote import approvals, ledger, registry
from glmops.promote.connection import writing
from glmops.promote.ledger import Entry

# The rest of the act, so that callers need one name.
from glmops.promote.overview import status as status
from glmops.promote.registration import Registration as Registration
from glmops.promote.registration import already_registered as already_registered
from glmops.promote.registration import register as register
from glmops.promote.standing import Standing, champions, person, resolve, standing


@dataclass(frozen=True, slots=True)
class Change:
    """What a promotion or a rollback did, and the sentence that says it."""

    digest: str
    changed: bool
    sentence: str


def promote(root: Path, recipe: str, prefix: str, *, actor: str) -> Change:
    """Make an approved candidate the champion; the champion again changes nothing but mends MLflow.

    Raises:
        RecipeError: Unknown recipe or digest.
        RefusedError: The gate does not pass it now, or approvals are missing.
        IntegrityError: Its stored bytes are not the recorded ones.
    """
    name = person(actor)
    with writing(root):
        now = standing(root, recipe)
        digest = resolve(now, prefix)
        short = digest[:12]
        if digest == now.champion:
            mended = registry.ensure_champion(
                root, recipe, digest, previous=now.previous, actor=name
            )
            done = "; MLflow lacked it and has it again" if mended else ": nothing changed"
            return Change(digest, mended, f"{short} is the champion of {recipe} already{done}")
        approvals.require_passed(root, now, digest, f"promote {recipe}")
        given = approvals.require_approved(now, digest)
        registry.ensure_champion(root, recipe, digest, previous=now.champion, actor=name)
        payload = {
            "approvals": [{"actor": one.actor, "kind": one.kind, "time": one.time} for one in given]
        }
        _record_champion(root, now, "promote", digest, name, "", payload)
    by = ", ".join(f"{one.actor} ({one.kind})" for one in given)
    after = f", after {now.champion[:12]}" if now.champion else ""
    return Change(digest, True, f"{short} is the champion of {recipe}{after}; approved by {by}")


def rollback(root: Path, recipe: str, *, actor: str, reason: str = "") -> Change:
    """Make the champion before this one the champion again.

    Raises:
        RefusedError: There is none.
    """
    name = person(actor)
    with writing(root):
        now = standing(root, recipe)
        target, gone = now.previous, now.champion
        if target is None or gone is None:
            what = "there is no champion before this one" if gone else "there is no champion yet"
            do = f"`glmops status {recipe}` shows what is there."
            raise RefusedError(f"rollback {recipe}", what, do=do)
        before_it = next(iter(champions(now.entries)[-3:-2]), None)
        registry.ensure_champion(root, recipe, target, previous=before_it, actor=name)
        _record_champion(root, now, "rollback", target, name, reason, {})
    return Change(target, True, f"{target[:12]} is the champion of {recipe} again, not {gone[:12]}")


def champion_folder(root: Path, recipe: str) -> Path:
    """The champion's package, every file hashed again; its checkpoint is ``model/`` inside.

    Raises:
        InputError: No champion yet.
    """
    champion = standing(root, recipe).champion
    if champion is None:
        do = f"Promote a candidate (`glmops status {recipe}`), or name a checkpoint folder."
        raise InputError(f"recipe {recipe}", "there is no champion yet", do=do)
    return registry.find_package(root, recipe, champion)


def _record_champion(
    root: Path,
    now: Standing,
    kind: Literal["promote", "rollback"],
    digest: str,
    actor: str,
    reason: str,
    payload: dict[str, Any],
) -> None:
    """The decision itself, unless the champion moved while its package was being copied."""
    entry = Entry(
        kind=kind,
        recipe=now.recipe,
        digest=digest,
        actor=actor,
        decision="champion",
        champion=now.champion,
        rules_hash=now.rules_hash,
        reason=reason,
        payload=payload,
    )

    def moved(entries: Sequence[Entry]) -> bool:
        return champions(entries) != champions(now.entries)

    if not ledger.append(root, entry, unless=moved):
        raise RefusedError(
            f"{kind} {now.recipe} {digest[:12]}",
            "another process changed the champion meanwhile",
            do=f"Look at `glmops status {now.recipe}`, then decide again.",
        )
