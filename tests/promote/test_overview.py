from __future__ import annotations

import io

from rich.console import Console

from glmops.promote import approvals, promotion
from glmops.promote.tables import status_table


def shown(entry) -> str:
    out = io.StringIO()
    Console(file=out, width=160, color_system=None).print(status_table(entry))
    return out.getvalue()


def test_nothing_registered_is_nothing_to_show(workshop) -> None:
    assert promotion.status(workshop.root) == []
    assert promotion.status(workshop.root, "demo") == []


def test_a_candidates_state_follows_what_happens_to_it(workshop) -> None:
    def state() -> str:
        (entry,) = promotion.status(workshop.root, "demo")
        (candidate,) = [c for c in entry["candidates"] if c["digest"] == digest]
        assert candidate["state"] in shown(entry)
        return candidate["state"]

    digest = workshop.register().digest
    assert state() == "waiting for review"
    approvals.reject(workshop.root, "demo", digest, actor="bob")
    assert state() == "rejected"
    approvals.approve(workshop.root, "demo", digest, actor="bob")
    assert state() == "approved"
    workshop.rules(min_rows=2)
    assert state() == "to be judged again"
    workshop.register()
    assert state() == "waiting for review"
    approvals.approve(workshop.root, "demo", digest, actor="bob")
    promotion.promote(workshop.root, "demo", digest, actor="carol")
    assert state() == "champion"


def test_a_refused_run_is_listed_with_its_reasons(workshop) -> None:
    workshop.train("bad", right=50)
    workshop.register()
    (candidate,) = promotion.status(workshop.root, "demo")[0]["candidates"]
    assert (candidate["state"], candidate["verdict"]) == ("refused", "refused")
    assert "0.4167" in candidate["reasons"][0]  # 50 / 120
    assert candidate["metrics"]["classification/accuracy"] == 50 / 120
    assert (candidate["actor"], candidate["approvals"]) == ("carol", [])
    assert 0 <= candidate["age_seconds"] < 600


def test_an_approval_shows_by_whom_that_it_is_unsigned_and_why_it_is_void(workshop) -> None:
    digest = workshop.register().digest
    approvals.approve(workshop.root, "demo", digest, actor="[red]alice")
    workshop.rules(min_rows=2)
    (entry,) = promotion.status(workshop.root)
    (given,) = entry["candidates"][0]["approvals"]
    assert (given["kind"], given["valid"]) == ("unsigned", False)
    assert given["void"] == "the rules have changed since"
    text = shown(entry)
    assert "[red]alice approved" in text
    assert "unsigned, void" in text


def test_a_recipe_without_its_file_is_shown_with_a_warning(workshop) -> None:
    workshop.register()
    (workshop.root / "recipes" / "demo.yaml").unlink()
    (entry,) = promotion.status(workshop.root)
    assert "no such recipe" in entry["warnings"][0]
    assert "no such recipe" in shown(entry)
