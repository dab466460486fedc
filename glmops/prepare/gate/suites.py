"""The gate's suites, in code: of the whole table, of every row, of each task and of each format.

A rule is a great-expectations expectation over the facts of ``facts``, with the reason that a row
or a table is refused for. ``{…}`` in a reason is filled in from the row by ``refusals``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glmops.prepare.gate.facts import FORMAT_IDS, FORMAT_LABELS
from glmops.recipe import Prepare
from glmops.records import Task

_OURS = "This is a fault of glmops, not of the rows: please report it."


@dataclass(frozen=True, slots=True)
class Suite:
    """Rules that are judged together, one page of the Data Docs."""

    name: str
    rules: tuple[Any, ...]
    task: Task | None = None
    """Only rows of this task."""
    sources: tuple[int, ...] | None = None
    """Only rows of these sources."""
    of_rows: bool = True
    """Whether a broken rule refuses rows; else the set as a whole."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The facts that its rules ask for."""
        return tuple(dict.fromkeys(rule.column for rule in self.rules if hasattr(rule, "column")))


def suites(section: Prepare, found_tasks: Sequence[Task]) -> list[Suite]:
    """Every suite that the rows of a recipe must pass before they are split.

    Args:
        found_tasks: The tasks that occur among the rows.
    """
    formats: dict[str, list[int]] = {}
    for index, source in enumerate(section.all_sources):
        formats.setdefault(source.format, []).append(index)
    return [
        Suite("table", tuple(_table_rules(section.tasks, found_tasks)), of_rows=False),
        Suite("rows", tuple(_row_rules(section))),
        *(
            Suite(f"task-{task}", tuple(_task_rules(task, section)), task=task)
            for task in found_tasks
        ),
        *(
            Suite(f"format-{name}", tuple(_format_rules(name)), sources=tuple(places))
            for name, places in formats.items()
            if name in FORMAT_IDS
        ),
    ]


def left(tasks: Sequence[Task]) -> list[Suite]:
    """What must hold for the rows that are left once the bad ones are refused."""
    import great_expectations.expectations as gxe

    some = gxe.ExpectTableRowCountToBeBetween(min_value=1, **_because("no usable row is left"))
    several = gxe.ExpectColumnUniqueValueCountToBeBetween(
        column="label",
        min_value=2,
        **_because(
            "every classification row that is left has the same label: there is nothing to learn",
            "Correct the label column, or leave classification out of prepare.tasks.",
        ),
    )
    learnable = (several,) if "classification" in tasks else ()
    return [Suite("rows-left", (some, *learnable), of_rows=False)]


def sides() -> list[Suite]:
    """What must hold for the rows as they are split; a leak is refused by ``leaks`` before this."""
    import great_expectations.expectations as gxe

    return [
        Suite(
            "split",
            (
                gxe.ExpectColumnValuesToBeUnique(
                    column="id", **_because("two prepared rows share an id", _OURS)
                ),
                gxe.ExpectColumnValuesToBeInSet(
                    column="sides_of_text",
                    value_set=[1],
                    **_because("a text lies on two sides of the split", _OURS),
                ),
                gxe.ExpectColumnValuesToBeInSet(
                    column="near_leak",
                    value_set=[0],
                    **_because("a text has a near copy on another side of the split", _OURS),
                ),
            ),
            of_rows=False,
        )
    ]


def columns(names: Sequence[str]) -> Suite:
    """The suite of a row frame's columns; what is judged is their names alone."""
    import great_expectations.expectations as gxe

    rule = gxe.ExpectTableColumnsToMatchSet(
        column_set=list(names),
        exact_match=True,
        **_because("the reader gave other columns than those of a row", _OURS),
    )
    return Suite("columns", (rule,), of_rows=False)


def _table_rules(tasks: Sequence[Task], found: Sequence[Task]) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnDistinctValuesToContainSet(
            column="task",
            value_set=list(tasks),
            **_because(
                f"prepare.tasks declares {', '.join(tasks)}, but the rows are only of "
                f"{', '.join(found)}"
            ),
        ),
    ]


def _row_rules(section: Prepare) -> list[Any]:
    import great_expectations.expectations as gxe

    declared = f"it is a row of task {{task}}; the recipe has {', '.join(section.tasks)}"
    rules = [
        _none("empty_answer", "the target is empty"),
        _none("empty_text", "there is no text to ask about"),
        _none("control_character", "it holds {detail}"),
        _none("lfs_pointer", "the text is a Git LFS pointer in place of the data"),
        *_length_rules(section),
        gxe.ExpectColumnValuesToBeInSet(
            column="task", value_set=list(section.tasks), **_because(declared)
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="rows_of_id",
            value_set=[1],
            **_because("the id {id!r} stands on {rows_of_id} different rows{detail}"),
        ),
    ]
    if section.placeholders == "refuse":
        rules.append(_none("placeholder", "it holds the placeholder {detail}"))
    return rules


def _length_rules(section: Prepare) -> list[Any]:
    from glmops.prepare.gate.expectations import ExpectColumnValuesToLieWithin

    return [
        ExpectColumnValuesToLieWithin(
            column=f"{part}_characters",
            min_value=fewest,
            max_value=most,
            **_because(f"the {part} is {{detail}}", fewest=fewest, most=most),
        )
        for part, (fewest, most) in (
            ("prompt", section.lengths.prompt),
            ("target", section.lengths.target),
        )
    ]


def _task_rules(task: Task, section: Prepare) -> list[Any]:
    import great_expectations.expectations as gxe

    rules = [_none("broken_answer", "{detail}")]
    if task == "classification":
        if section.labels is not None:
            known = _plain(", ".join(section.labels))
            reason = f"{{target!r}} has a label that prepare.labels does not declare ({known})"
            rules.append(_none("undeclared_label", reason))
        if section.conflicts == "refuse":
            rules.append(
                gxe.ExpectColumnValuesToBeInSet(
                    column="labels_of_text",
                    value_set=[0, 1],
                    **_because("the same text has different labels{detail}"),
                )
            )
    return rules


def _format_rules(name: str) -> list[Any]:
    known = ", ".join(FORMAT_LABELS[name])
    return [
        _none("odd_id", f"{{id!r}} is no id of the format {name}"),
        _none("foreign_label", f"{{target!r}} is no label of the format {name} ({known})"),
    ]


def _plain(text: str) -> str:
    """Text for a reason, in which ``{`` would have a meaning."""
    return text.replace("{", "{{").replace("}", "}}")


def _none(fact: str, reason: str) -> Any:
    """The rule that a fault occurs in no row."""
    import great_expectations.expectations as gxe

    return gxe.ExpectColumnValuesToBeInSet(column=fact, value_set=[0], **_because(reason))


def _because(
    text: str, do: str = "Correct the rows, or the recipe.", **numbers: int
) -> dict[str, Any]:
    """What a rule says when it is broken: to people here, and as a note in the Data Docs."""
    note = re.sub(r"(?<!\{)\{[^{}]+\}", "…", text).replace("{{", "{").replace("}}", "}")
    return {"meta": {"reason": text, "do": do, **numbers}, "notes": f"Else refused: {note}"}
