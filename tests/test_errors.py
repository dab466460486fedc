"""An error is one line with a place, a reason, a value and a way out."""

from __future__ import annotations

import pytest

from glmops.errors import GlmopsError, InputError, RecipeError, RefusedError, lookup


def test_an_error_prints_where_what_got_and_do() -> None:
    error = InputError("rows.jsonl:8", "expected 5 fields", got="a_!_b", do="Drop the row.")
    assert str(error) == "rows.jsonl:8: expected 5 fields, got 'a_!_b'. Drop the row."


def test_an_error_without_a_value_says_nothing_of_one() -> None:
    assert str(GlmopsError("x", "is empty", do="Fill it.")) == "x: is empty. Fill it."


def test_a_long_value_is_cut_to_one_readable_line() -> None:
    message = str(InputError("x", "is bad", got="赛" * 9999 + "\n", do="Cut it."))
    assert len(message) < 200
    assert "\n" not in message


@pytest.mark.parametrize(
    ("kind", "code"), [(GlmopsError, 1), (InputError, 2), (RecipeError, 2), (RefusedError, 3)]
)
def test_each_kind_has_its_exit_code(kind: type[GlmopsError], code: int) -> None:
    assert kind.exit_code == code


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"format: unknown name, got 'csv'\. Known: a, b\."):
        lookup({"b": 1, "a": 2}, "csv", "format")
