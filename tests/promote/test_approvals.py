from __future__ import annotations

import re

import pytest

from glmops.errors import RecipeError, RefusedError
from glmops.promote import approvals, ledger, promotion
from glmops.promote.standing import (
    Standing,
    champions,
    present_actor,
    resolve,
    rules_hash,
    standing,
)
from glmops.recipe import Promote


@pytest.fixture
def digest(workshop) -> str:
    return workshop.register().digest


def said(workshop, digest: str) -> list[tuple[str, str, bool]]:
    given = approvals.decisions(standing(workshop.root, "demo"), digest)
    return [(one.actor, one.decision, one.valid) for one in given]


def test_an_approval_is_an_entry_and_is_marked_unsigned(workshop, digest: str) -> None:
    given = approvals.approve(workshop.root, "demo", digest[:6], actor="alice", reason="看过了")
    assert (given.digest, given.kind, given.valid) == (digest, "unsigned", True)
    entry = ledger.read(workshop.root)[-1]
    assert (entry.kind, entry.actor, entry.reason) == ("approve", "alice", "看过了")
    assert (entry.champion, entry.signature) == (None, None)
    assert entry.rules_hash == rules_hash(workshop.recipe.promote)
    assert given.time == entry.time


def test_the_same_word_twice_is_one_entry(workshop, digest: str) -> None:
    for _ in range(2):
        approvals.approve(workshop.root, "demo", digest, actor="alice")
    assert [e.kind for e in ledger.read(workshop.root)].count("approve") == 1


def test_distinct_people_are_counted(workshop, digest: str) -> None:
    workshop.rules(approvals=2)
    for name in ("alice", "Alice", " alice "):
        approvals.approve(workshop.root, "demo", digest, actor=name)
    with pytest.raises(RefusedError, match="1 of 2 approvals missing"):
        promotion.promote(workshop.root, "demo", digest, actor="carol")
    approvals.approve(workshop.root, "demo", digest, actor="bob")
    assert promotion.promote(workshop.root, "demo", digest, actor="carol").changed


def test_a_rejection_takes_back_ones_own_approval(workshop, digest: str) -> None:
    approvals.approve(workshop.root, "demo", digest, actor="alice")
    approvals.reject(workshop.root, "demo", digest, actor="alice", reason="on second thoughts")
    assert said(workshop, digest) == [("alice", "reject", True)]
    with pytest.raises(RefusedError, match=r"alice rejected it \(on second thoughts\)"):
        promotion.promote(workshop.root, "demo", digest, actor="carol")


def test_a_rejection_bars_promotion_until_its_author_approves(workshop, digest: str) -> None:
    approvals.approve(workshop.root, "demo", digest, actor="alice")
    approvals.reject(workshop.root, "demo", digest, actor="bob")
    workshop.rules(min_rows=2)  # voids approvals; a no stays a no
    approvals.approve(workshop.root, "demo", digest, actor="alice")
    with pytest.raises(RefusedError, match="bob rejected it") as refused:
        promotion.promote(workshop.root, "demo", digest, actor="carol")
    assert f"glmops approve demo {digest[:12]} --as bob" in str(refused.value)
    approvals.approve(workshop.root, "demo", digest, actor="bob")
    assert promotion.promote(workshop.root, "demo", digest, actor="carol").changed


def test_what_the_gate_refused_cannot_be_approved_but_can_be_rejected(workshop) -> None:
    workshop.train("bad", right=50)
    bad = workshop.register().digest
    with pytest.raises(RefusedError, match=r"says refused: classification/accuracy is 0\.4167"):
        approvals.approve(workshop.root, "demo", bad, actor="alice")
    assert said(workshop, bad) == []
    assert approvals.reject(workshop.root, "demo", bad, actor="alice").decision == "reject"


def test_the_champion_needs_no_approval(workshop, digest: str) -> None:
    approvals.approve(workshop.root, "demo", digest, actor="alice")
    promotion.promote(workshop.root, "demo", digest, actor="carol")
    with pytest.raises(RefusedError, match="it is the champion already"):
        approvals.approve(workshop.root, "demo", digest, actor="bob")


@pytest.mark.parametrize("name", ["", "   ", "a\x00b", "x" * 201, "\u202eecila"])
def test_a_name_that_is_none_is_refused(workshop, digest: str, name: str) -> None:
    with pytest.raises(RecipeError, match="actor: not a name"):
        approvals.approve(workshop.root, "demo", digest, actor=name)


def test_the_actor_of_a_run_is_named_or_the_login(monkeypatch) -> None:
    monkeypatch.setenv("GLMOPS_ACTOR", " carol  c ")
    assert present_actor() == "carol c"
    monkeypatch.delenv("GLMOPS_ACTOR")
    assert present_actor()


def some(*digests: str) -> Standing:
    entries = tuple(ledger.Entry("gate", "demo", d, "carol", "passed") for d in digests)
    return Standing("demo", Promote(floors={"triples/f1": 0.5}), "r" * 64, entries)


def test_a_prefix_of_six_characters_finds_its_digest() -> None:
    one, other = "abcdef" + "0" * 58, "abcdee" + "0" * 58
    assert resolve(some(one, other, one), "ABCDEF") == one
    assert resolve(some(one), one) == one


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("abcde", "at least 6 characters, got 'abcde'. There is: abcdef000000, abcdef111111."),
        ("", "expected at least 6 characters"),
        (
            "999999",
            "no such digest, got '999999'. There is: abcdef000000, abcdef111111, 7777",
        ),
        ("abcdef", "more than one digest starts like this, got 'abcdef'. There is: abcdef000000, "),
    ],
)
def test_a_prefix_that_names_no_one_digest_is_refused(prefix: str, message: str) -> None:
    now = some("abcdef" + "0" * 58, "abcdef" + "1" * 58, "7" * 64)
    with pytest.raises(RecipeError, match=re.escape(message)):
        resolve(now, prefix)


def test_an_empty_ledger_says_how_to_begin() -> None:
    with pytest.raises(RecipeError, match="Run `glmops run demo` first"):
        resolve(some(), "abcdef12")


def test_the_line_of_champions() -> None:
    acts = "promote a, promote b, promote c, rollback b, promote d, rollback b, rollback a"
    entries = []
    lines = []
    for act in acts.split(", "):
        kind, digest = act.split()
        entries.append(ledger.Entry(kind, "demo", digest, "carol", "champion"))
        lines.append("".join(champions(entries)))
    assert lines == ["a", "ab", "abc", "ab", "abd", "ab", "a"]
