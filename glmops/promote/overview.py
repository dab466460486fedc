"""What stands now: champion, previous, candidates, and who decided what. Reads only; no MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glmops.errors import RecipeError
from glmops.promote import ledger, registry
from glmops.promote.approvals import decisions, missing
from glmops.promote.ledger import Entry
from glmops.promote.standing import Standing, champions, rules_hash
from glmops.recipe import Promote, load_recipe


def status(root: Path, recipe: str | None = None) -> list[dict[str, Any]]:
    """One plain dict per recipe that the ledger knows; ``recipe`` leaves the others out.

    champion, previous: digests or None. candidates: everything the gate judged, newest first, each
    with digest, state, verdict, reasons, metrics, approvals, missing_approvals, actor, since,
    age_seconds. warnings: sentences about what disagrees.
    """
    entries = ledger.read(root, recipe)
    names = sorted({entry.recipe for entry in entries})
    return [_status(root, name, [e for e in entries if e.recipe == name]) for name in names]


def _status(root: Path, recipe: str, entries: Sequence[Entry]) -> dict[str, Any]:
    warnings = []
    try:
        rules = load_recipe(root, recipe).promote
    except RecipeError as error:
        # Rules that nothing was judged by: every verdict then shows as out of date.
        rules = Promote(floors={"-/-": 0.0})
        warnings.append(str(error))
    now = Standing(recipe, rules, rules_hash(rules), tuple(entries))
    judged = dict.fromkeys(entry.digest for entry in reversed(entries) if entry.kind == "gate")
    warnings += _disagreements(root, now)
    return {
        "recipe": recipe,
        "champion": now.champion,
        "previous": now.previous,
        "approvals_needed": rules.approvals,
        "candidates": [_candidate(now, digest) for digest in judged],
        "warnings": warnings,
    }


def _candidate(now: Standing, digest: str) -> dict[str, Any]:
    gates = [e for e in now.entries if e.kind == "gate" and e.digest == digest]
    last = now.gate_entry(digest) or gates[-1]
    given = decisions(now, digest)
    lacking = missing(now, given)
    stale = now.gate_entry(digest) is None
    rejected = any(one.decision == "reject" for one in given)
    if digest == now.champion:
        state = "champion"
    elif stale:
        state = "to be judged again"
    elif last.decision != "passed":
        state = last.decision
    elif rejected:
        state = "rejected"
    else:
        state = "waiting for review" if lacking else "approved"
    payload = last.payload or {}
    return {
        "digest": digest,
        "state": state,
        "previous": digest in champions(now.entries)[:-1],
        "verdict": last.decision,
        "stale": stale,
        "reasons": payload["verdict"]["reasons"],
        "metrics": {
            check["metric"]: check["value"]
            for check in payload["verdict"]["checks"]
            if check["ok"] is not None
        },
        "approvals": [
            {
                "actor": one.actor,
                "decision": one.decision,
                "valid": one.valid,
                "void": one.void,
                "kind": one.kind,
                "reason": one.reason,
                "time": one.time,
            }
            for one in given
        ],
        "missing_approvals": lacking,
        "actor": gates[0].actor,
        "since": gates[0].time,
        "age_seconds": _age(gates[0].time),
    }


def _age(time: str) -> int:
    return max(0, round((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()))


def _disagreements(root: Path, now: Standing) -> list[str]:
    """Where MLflow's aliases are not what the ledger decided."""
    found = registry.aliases(root, now.recipe)
    warnings = []
    for alias, decided in (("champion", now.champion), ("previous", now.previous)):
        seen = found.get(alias)
        if seen == decided:
            continue
        shown = f"names {seen[:12]}" if seen else "is absent"
        wanted = decided[:12] if decided else "no champion"
        mend = (
            f" `glmops promote {now.recipe} {now.champion[:12]}` mends it." if now.champion else ""
        )
        warnings.append(f"MLflow's alias {alias} {shown}, the ledger says {wanted}.{mend}")
    return warnings
