"""Templates over columns: the same prompt, answer and group as for one row, on nasty texts."""

from __future__ import annotations

import random
import re

import polars as pl
import pytest

from glmops.prepare.frames import HISTORY, normalised
from glmops.prepare.rendering import answer, group, with_prompt
from glmops.templates import TEMPLATES, Template, render, turn_lengths

NASTY = (
    *("", " ", "题", "a b", "{title}", "{", "}", "[", "]", "[{input}]", "\\", "\\1", "$1", "%s"),
    *("{}", "\n", "\n\n", "\t", "\r\n", "\u3000", "\u00a0", "\u2028", "\u200b", "\ufeff"),
    *("\u1680", "\x1f", "Instruction: ", "\nInput: ", "\nAnswer: ", "\nAnswer:", "Answer: "),
    *("😀", "e\u0301", "null"),
)
MORE = {
    "bare": Template("generation", body="{a}", answer="{b}"),
    "fixed": Template("generation", head="H", body="", cue="C", answer="A"),
    "optional": Template("generation", head="[{a}{b}]", body="x[-{b}-]{a}", answer="[{a}]{b}"),
    "long": Template("generation", body="{a}", answer="{b}", turn="{question}[:{answer}]", turns=2),
}


def rows(template: Template, dice: random.Random, count: int) -> list[dict[str, object]]:
    names = [*template.fields, *template.needed]
    made = []
    for _ in range(count):
        row: dict[str, object] = {
            name: "".join(dice.choices(NASTY, k=dice.randrange(5))) for name in names
        }
        pairs = [tuple(dice.choices(NASTY, k=2)) for _ in range(dice.randrange(5))]
        row["history"] = dice.choice((None, pairs))
        made.append(row)
    return made


@pytest.mark.parametrize("name", [*TEMPLATES, *MORE])
def test_a_template_over_columns_is_the_template_over_each_row(name: str) -> None:
    template = TEMPLATES.get(name) or MORE[name]
    made = rows(template, random.Random(name), 400)
    columns = {key: [row[key] for row in made] for key in made[0] if key != "history"}
    turns = [
        row["history"] and [{"question": q, "answer": a} for q, a in row["history"]] for row in made
    ]
    frame = pl.DataFrame({**columns, "history": pl.Series(turns, dtype=HISTORY)})
    done = with_prompt(frame, template, frame.columns)
    done = done.with_columns(answer(template, columns)).with_columns(group(template, columns))
    for row, found in zip(made, done.iter_rows(named=True), strict=True):
        prompt = template.prompt(row)
        assert (found["head"], found["body"], found["cue"]) == prompt[:3]
        assert turn_lengths(found["turns"]) == prompt.turns
        assert found["target"] == render(template.answer, row)
        source = render(template.source, row) if template.source else prompt.body
        assert found["group"] == " ".join(source.split())


def test_an_optional_field_that_no_row_has_is_left_out() -> None:
    frame = pl.DataFrame({"instruction": ["问"], "output": ["答"]})
    done = with_prompt(frame, TEMPLATES["instruction"], frame.columns)
    assert done.select("head", "body", "cue").row(0) == ("问：", "问", "\n答：")


def test_a_group_is_what_python_makes_of_white_space_for_every_character() -> None:
    texts = [
        f" a{chr(code)}b{chr(code)}" for code in range(0x110000) if not 0xD800 <= code < 0xE000
    ]
    found = pl.DataFrame({"text": texts}).select(normalised(pl.col("text")))["text"].to_list()
    assert found == [" ".join(text.split()) for text in texts]


def test_the_pattern_of_ready_made_prompts_means_the_same_in_both_engines() -> None:
    template = TEMPLATES["context-target"]
    dice = random.Random(31)
    starts, ends = ("Instruction: ", "Instruction: 答。\nInput: "), ("\nAnswer: ", "\nAnswer:")
    parts = (*starts, *ends, "\nInput: ", "问？", "\n\n", "\n", "文", " ")
    contexts = []
    for _ in range(2000):
        inner = "".join(dice.choices(parts, k=dice.randrange(8)))
        contexts += [inner, dice.choice(starts) + inner + dice.choice(ends)]
    found = with_prompt(pl.DataFrame({"context": contexts}), template, ["context"])
    matched = 0
    for context, row in zip(contexts, found.iter_rows(named=True), strict=True):
        match = re.fullmatch(template.pattern, context)
        matched += match is not None
        expected = match.groups() if match else ("", context, "")
        assert (row["head"], row["body"], row["cue"]) == expected
    assert matched > 100
