"""The one expectation that great-expectations lacks: between two bounds, for whole columns at once.

Its own expect_column_values_to_be_between asks Python about every single value: 0.3 s for 400,000
rows where this takes 0.03. Import only where great-expectations is wanted.
"""

from __future__ import annotations

from typing import Any

from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations import ExpectColumnValuesToBeBetween
from great_expectations.expectations.metrics.map_metric_provider import (
    ColumnMapMetricProvider,
    column_condition_partial,
)


class ColumnValuesWithin(ColumnMapMetricProvider):
    """For each value, whether it lies within two bounds, both included."""

    condition_metric_name = "column_values.within"
    condition_value_keys = ("min_value", "max_value")

    @column_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column: Any, min_value: float, max_value: float, **_: Any) -> Any:
        return column.between(min_value, max_value)


class ExpectColumnValuesToLieWithin(ExpectColumnValuesToBeBetween):
    """Expect every value to lie within two bounds, both included."""

    map_metric = "column_values.within"
