"""A template is data: each part is written once and means the same wherever it is rendered."""

from __future__ import annotations

import pytest

from glmops.errors import InputError
from glmops.records import TASKS
from glmops.templates import TEMPLATES, Template, pieces, render

PAPER = {"title": "A {b} [c]", "author": "D", "abstract": "E"}


def test_fields_are_put_in_as_they_are_whatever_is_in_them() -> None:
    assert render("title:{title}", PAPER) == "title:A {b} [c]"


def test_an_optional_piece_needs_all_its_fields() -> None:
    body = TEMPLATES["instruction"].body
    assert render(body, {"instruction": "问", "input": ""}) == "问"
    assert render(body, {"instruction": "问", "input": "文"}) == "问\n：文"
    assert [piece.optional for piece in pieces(body)] == [False, True]


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InputError, match="field 'abstract': no text under this name, got None"):
        TEMPLATES["paper-label"].prompt({"title": "t"})


def test_the_last_exchanges_stand_before_the_head() -> None:
    history = [("一", "1"), ("二", "2"), ("三", "3"), ("四", "4")]
    prompt = TEMPLATES["instruction"].prompt({"instruction": "五", "history": history})
    assert "".join(prompt[:3]) == "问：二\n答：2\n问：三\n答：3\n问：四\n答：4\n问：五\n答："
    assert (prompt.body, prompt.cue) == ("五", "\n答：")
    # 问：二\n答：2\n are eight characters, and the head begins with three such exchanges.
    assert prompt.turns == (8, 8, 8)


@pytest.mark.parametrize("history", ["问答", 7, ["问", "答"], [["问"]], [["问", 7]]])
def test_a_history_of_another_shape_is_refused_and_never_left_out(history: object) -> None:
    with pytest.raises(InputError, match=r"not a list of|no text under this name"):
        TEMPLATES["instruction"].prompt({"instruction": "五", "history": history})


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_can_be_asked_for_what_it_needs(name: str) -> None:
    template = TEMPLATES[name]
    assert template.task is None or template.task in TASKS
    fields = dict.fromkeys((*template.fields, "author"), "x")
    assert isinstance("".join(template.prompt(fields)[:3]), str)
    assert render(
        template.answer, {key: "y" for piece in pieces(template.answer) for key in piece.fields}
    )


def test_a_template_without_a_pattern_names_its_fields_in_order() -> None:
    template = Template("generation", head="{b}", body="{a}[ {c}]", cue="{b}", answer="{d}")
    assert template.fields == ("b", "a", "c")
