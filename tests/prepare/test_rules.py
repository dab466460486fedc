"""The gate: rows that break a rule are named, tables that break one stop, faults are not blamed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from glmops.errors import GlmopsError, InputError
from glmops.prepare.rules import LONGEST, _batch, _broken, _table_rules, gate
from glmops.records import Record

# great-expectations 1.24 imports two modules of the standard library that 3.11 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

GOOD = Record("0", "classification", "问：", "文", "答：", '["耳机"]', "文", "a.jsonl", 1)
TRIPLES = replace(GOOD, id="1", task="triples", line=2)
BOTH = ("classification", "triples")


def test_good_rows_pass_in_their_order() -> None:
    assert gate([TRIPLES, GOOD], BOTH, "raw") == ([TRIPLES, GOOD], [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task": "generation"}, "it is a row of task generation; the recipe has classification"),
        ({"target": " \n"}, "the target is empty"),
        ({"group": ""}, "there is no text to ask about"),
        ({"group": None}, "it has no group"),
        ({"head": "长" * LONGEST}, f"the prompt is longer than {LONGEST} characters"),
        ({"target": "长" * (LONGEST + 1)}, f"the target is longer than {LONGEST} characters"),
    ],
)
def test_a_row_that_breaks_a_rule_is_refused_by_name(change: dict[str, Any], reason: str) -> None:
    bad = replace(GOOD, id="2", line=7, **change)
    passed, (refusal,) = gate([GOOD, bad, TRIPLES], BOTH, "raw")
    assert passed == [GOOD, TRIPLES]
    assert (refusal.file, refusal.line) == ("a.jsonl", 7)
    assert reason in refusal.reason
    assert json.loads(refusal.raw) == {"prompt": bad.prompt, "target": bad.target}


def test_a_row_that_breaks_two_rules_is_refused_once_with_both_reasons() -> None:
    bad = replace(GOOD, id="2", target="", group="", line=3)
    _, (refusal,) = gate([GOOD, TRIPLES, bad], BOTH, "raw")
    assert refusal.reason == "the target is empty; there is no text to ask about"


def test_exact_repeats_pass_once_and_are_refused_together() -> None:
    assert gate([GOOD, TRIPLES, replace(GOOD, line=3)], BOTH, "raw") == ([GOOD, TRIPLES], [])
    bad = replace(GOOD, id="2", target="", line=4)
    passed, refused = gate([GOOD, bad, TRIPLES, replace(bad, line=9)], BOTH, "raw")
    assert passed == [GOOD, TRIPLES]
    assert [refusal.line for refusal in refused] == [4, 9]


def test_an_empty_table_stops_though_every_other_rule_would_pass() -> None:
    with pytest.raises(InputError, match="data/raw: no usable row is left"):
        gate([], BOTH, "data/raw")


def test_a_declared_task_without_rows_stops() -> None:
    with pytest.raises(InputError) as caught:
        gate([GOOD], BOTH, "data/raw")
    said = "prepare.tasks declares classification, triples, but the rows are only of classification"
    assert said in str(caught.value)


def test_two_rows_under_one_id_break_the_table() -> None:
    rules = _table_rules(["classification"], ["classification"])
    (broken,) = _broken(_batch([GOOD, replace(GOOD, body="别的")]), rules)
    assert "ids must be unique" in broken.meta["reason"]
    assert _broken(_batch([GOOD, replace(GOOD, id="9")]), rules) == []


def test_a_rule_that_cannot_be_evaluated_is_a_fault_of_the_gate() -> None:
    import great_expectations.expectations as gxe

    rule = gxe.ExpectColumnValuesToNotBeNull(column="colour", meta={"reason": "no colour"})
    with pytest.raises(GlmopsError, match="could not be evaluated") as caught:
        _broken(_batch([GOOD]), [rule])
    assert not isinstance(caught.value, InputError)
    assert caught.value.exit_code == 1
    assert "colour" in str(caught.value)
