"""The gate: what must hold for the whole table of records, as great-expectations suites in code.

A row that breaks a row rule is refused and named. A table that breaks a table rule stops the stage.
A rule that could not be evaluated is a fault of the gate, never of the data.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from glmops.errors import GlmopsError, InputError
from glmops.records import Record, Refusal, Task

COLUMNS = (*(field.name for field in fields(Record)), "prompt")
LONGEST = 100_000
"""Characters of a prompt or target. What is longer is a file without its line breaks."""


def gate(
    records: Sequence[Record], tasks: Sequence[Task], where: str
) -> tuple[list[Record], list[Refusal]]:
    """The different records that pass every rule, and a refusal for each row that does not.

    Args:
        records: As read; of exact repeats the first passes, and all are refused together.
        tasks: The tasks that the recipe declares; each must occur.
        where: The raw path, for errors about the table.
    Raises:
        InputError: The table as a whole cannot be used.
        GlmopsError: A rule could not be evaluated.
    """
    different = without_repeats(records)
    batch = _batch(different)
    # The row count first and alone: on an empty table every other rule passes.
    for suite in (_size_rules(), _table_rules(tasks, {record.task for record in different})):
        for rule in _broken(batch, suite):
            raise InputError(where, rule.meta["reason"], do="Correct the rows, or the recipe.")
    reasons: dict[str, list[str]] = defaultdict(list)
    for rule in _broken(batch, _row_rules(tasks)):
        for place in _broken_rows(batch, rule):
            reasons[different[place].id].append(rule.meta["reason"])
    passed = [record for record in different if record.id not in reasons]
    return passed, [_refusal(row, reasons[row.id]) for row in records if row.id in reasons]


def without_repeats(records: Sequence[Record]) -> list[Record]:
    """The first of each set of rows with the same prompt and target (their ids are equal)."""
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record.id, record)
    return list(first.values())


def _size_rules() -> list[Any]:
    import great_expectations.expectations as gxe

    return [gxe.ExpectTableRowCountToBeBetween(min_value=1, meta=_reason("no usable row is left"))]


def _table_rules(tasks: Sequence[Task], found: Collection[Task]) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectTableColumnsToMatchSet(
            column_set=list(COLUMNS),
            exact_match=True,
            meta=_reason("not a record's columns"),
        ),
        gxe.ExpectColumnValuesToBeUnique(
            column="id", meta=_reason("ids must be unique once repeated rows are dropped")
        ),
        gxe.ExpectColumnDistinctValuesToContainSet(
            column="task",
            value_set=list(tasks),
            meta=_reason(
                f"prepare.tasks declares {', '.join(tasks)}, but the rows are only of "
                f"{', '.join(sorted(found))}"
            ),
        ),
    ]


def _row_rules(tasks: Sequence[Task]) -> list[Any]:
    import great_expectations.expectations as gxe

    rules = [
        gxe.ExpectColumnValuesToNotBeNull(column=column, meta=_reason(f"it has no {column}"))
        for column in COLUMNS
    ]
    rules += [
        gxe.ExpectColumnValuesToMatchRegex(column=column, regex=r"\S", meta=_reason(reason))
        for column, reason in (
            ("target", "the target is empty"),
            ("group", "there is no text to ask about"),
        )
    ]
    rules += [
        gxe.ExpectColumnValueLengthsToBeBetween(
            column=column,
            max_value=LONGEST,
            meta=_reason(f"the {column} is longer than {LONGEST} characters"),
        )
        for column in ("prompt", "target")
    ]
    declared = f"it is a row of task {{record.task}}; the recipe has {', '.join(tasks)}"
    return [
        *rules,
        gxe.ExpectColumnValuesToBeInSet(
            column="task", value_set=list(tasks), meta=_reason(declared)
        ),
    ]


def _reason(text: str) -> dict[str, str]:
    """What a rule says when it is broken; ``{record.…}`` is filled in from the row."""
    return {"reason": text}


def _batch(records: Sequence[Record]) -> Any:
    """The records as a great-expectations batch; a row's index is its place in ``records``."""
    import great_expectations as gx
    import pandas as pd

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = {"globally": False}
    rows = {name: [getattr(record, name) for record in records] for name in COLUMNS}
    asset = context.data_sources.add_pandas("prepare").add_dataframe_asset("records")
    whole = asset.add_batch_definition_whole_dataframe("all")
    return whole.get_batch(batch_parameters={"dataframe": pd.DataFrame(rows, columns=COLUMNS)})


def _broken(batch: Any, rules: list[Any]) -> list[Any]:
    """The rules that do not hold. Yes or no is quick; which rows break one is asked separately."""
    by_reason = {rule.meta["reason"]: rule for rule in rules}
    results = _validate(batch, rules, "BOOLEAN_ONLY")
    failed = [result for result in results if not result.success]
    return [by_reason[result.expectation_config.meta["reason"]] for result in failed]


def _broken_rows(batch: Any, rule: Any) -> list[int]:
    """The places of the rows that break a row rule."""
    (result,) = _validate(batch, [rule], "COMPLETE")
    return list(result.result["unexpected_index_list"])


def _validate(batch: Any, rules: list[Any], detail: str) -> list[Any]:
    import great_expectations as gx

    suite = gx.ExpectationSuite(name="records", expectations=rules)
    results: list[Any] = batch.validate(suite, result_format=detail).results
    for result in results:
        info = result.exception_info or {}
        # One report per rule, or one per metric that the rule is made of.
        for report in [info] if "raised_exception" in info else info.values():
            if report["raised_exception"]:
                raise GlmopsError(
                    f"prepare gate, {result.expectation_config.type}",
                    "the rule could not be evaluated",
                    got=report["exception_message"],
                    do="This is a fault of the gate, not of the rows: please report it.",
                )
    return results


def _refusal(record: Record, reasons: Sequence[str]) -> Refusal:
    """The gate sees records, not lines: ``raw`` is what was read from the line, as JSON."""
    raw = json.dumps({"prompt": record.prompt, "target": record.target}, ensure_ascii=False)
    reason = "; ".join(reasons).format(record=record)
    return Refusal(record.file, record.line, reason, raw)
