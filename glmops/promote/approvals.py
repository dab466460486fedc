"""Reviewers' decisions: who said yes or no to which digest, and whether it still holds.

An approval is given for a digest as it stands against one champion under one set of rules; when
either changes it is void, and stays so when the old champion comes back: what was rolled back
needs a new review. A rejection stands until the same person approves. Decisions are taken
by name and are *unsigned*: nothing proves that alice is alice. Wherever one shows, so does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glmops.errors import RefusedError
from glmops.promote import ledger
from glmops.promote.connection import writing
from glmops.promote.ledger import Entry
from glmops.promote.standing import (
    Standing,
    person,
    present_actor,
    present_verdict,
    resolve,
    standing,
)

Decided = Literal["approve", "reject"]


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's last word on a digest. ``void`` says why it no longer counts, or is empty."""

    digest: str
    actor: str
    decision: Decided
    reason: str
    time: str
    kind: Literal["signed", "unsigned"]
    void: str

    @property
    def valid(self) -> bool:
        return not self.void


def approve(root: Path, recipe: str, prefix: str, *, actor: str, reason: str = "") -> Decision:
    """Record a yes; the same yes twice is one entry.

    Args:
        prefix: The digest, or its first 6 or more characters.
    Raises:
        RecipeError: Unknown recipe or digest, or no usable name.
        RefusedError: The gate did not pass it under the present rules and champion.
    """
    name = person(actor)
    with writing(root):
        now = standing(root, recipe)
        digest = resolve(now, prefix)
        if digest == now.champion:
            where = f"approve {recipe} {digest[:12]}"
            raise RefusedError(where, "it is the champion already", do="There is nothing to do.")
        require_passed(root, now, digest, f"approve {recipe}")
        return _decide(root, now, digest, "approve", name, reason)


def reject(root: Path, recipe: str, prefix: str, *, actor: str, reason: str = "") -> Decision:
    """Record a no. It takes back the same person's yes, and bars promotion until they approve.

    Raises:
        RecipeError: Unknown recipe or digest, or no usable name.
    """
    name = person(actor)
    with writing(root):
        now = standing(root, recipe)
        return _decide(root, now, resolve(now, prefix), "reject", name, reason)


def require_passed(root: Path, now: Standing, digest: str, where: str) -> None:
    """Raises RefusedError, with the gate's reasons, unless the digest passes now."""
    verdict = present_verdict(root, now, digest, present_actor())
    if not verdict.passed:
        raise RefusedError(
            f"{where} {digest[:12]}",
            f"the gate says {verdict.outcome}: {'; '.join(verdict.reasons)}",
            do="Only a candidate that passes can be approved and promoted.",
        )


def decisions(now: Standing, digest: str) -> list[Decision]:
    """Each person's last word on a digest, oldest first."""
    last: dict[str, Entry] = {}
    for entry in now.entries:
        if entry.digest == digest and entry.kind in ("approve", "reject"):
            last.pop(_same_person(entry.actor), None)
            last[_same_person(entry.actor)] = entry
    return [_decision(entry, now) for entry in last.values()]


def missing(now: Standing, given: Iterable[Decision]) -> int:
    """How many more approvals the recipe's rules ask for."""
    have = sum(1 for one in given if one.decision == "approve" and one.valid)
    return max(0, now.rules.approvals - have)


def require_approved(now: Standing, digest: str) -> list[Decision]:
    """The approvals that carry a promotion.

    Raises:
        RefusedError: Too few of them hold, or a rejection stands.
    """
    given = decisions(now, digest)
    where = f"promote {now.recipe} {digest[:12]}"
    for one in given:
        if one.decision == "reject":
            because = f" ({one.reason})" if one.reason else ""
            do = f"{one.actor} can take it back with `{_command(now, digest, one.actor)}`."
            raise RefusedError(where, f"{one.actor} rejected it{because}", do=do)
    lacking = missing(now, given)
    if lacking:
        voided = "".join(f"; {one.actor}'s is void: {one.void}" for one in given if one.void)
        raise RefusedError(
            where,
            f"{lacking} of {now.rules.approvals} approvals missing{voided}",
            do=f"Review the report, then `{_command(now, digest, 'YOUR-NAME')}`.",
        )
    return [one for one in given if one.valid]


def _decide(
    root: Path, now: Standing, digest: str, decision: Decided, actor: str, reason: str
) -> Decision:
    entry = Entry(
        kind=decision,
        recipe=now.recipe,
        digest=digest,
        actor=actor,
        decision=decision,
        champion=now.opponent(digest),
        rules_hash=now.rules_hash,
        reason=reason,
    )

    def said_already(entries: Sequence[Entry]) -> bool:
        mine = [
            (e.kind, e.rules_hash, e.sequence > now.turn)
            for e in entries
            if e.digest == digest
            and e.kind in ("approve", "reject")
            and _same_person(e.actor) == _same_person(actor)
        ]
        return mine[-1:] == [(entry.kind, entry.rules_hash, True)]

    ledger.append(root, entry, unless=said_already)
    said = decisions(standing(root, now.recipe), digest)
    return next(one for one in said if _same_person(one.actor) == _same_person(actor))


def _decision(entry: Entry, now: Standing) -> Decision:
    void = ""
    if entry.kind == "approve":
        if entry.rules_hash != now.rules_hash:
            void = "the rules have changed since"
        elif entry.digest != now.champion and entry.sequence < now.turn:
            void = "the champion has changed since"
    return Decision(
        digest=entry.digest,
        actor=entry.actor,
        decision="approve" if entry.kind == "approve" else "reject",
        reason=entry.reason,
        time=entry.time,
        kind="signed" if entry.signature else "unsigned",
        void=void,
    )


def _same_person(name: str) -> str:
    """Alice and alice are one reviewer."""
    return name.casefold()


def _command(now: Standing, digest: str, actor: str) -> str:
    return f"glmops approve {now.recipe} {digest[:12]} --as {actor}"
