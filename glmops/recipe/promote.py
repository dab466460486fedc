"""The promote section: the gate's rules and the review policy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from glmops.recipe.evaluate import Baseline
from glmops.recipe.section import Positive, Section

Margin = Annotated[float, Field(ge=0)]


class SliceRule(Section):
    """What must hold in every slice of the test rows, for one metric."""

    by: Literal["class", "length"]
    """class: the expected label. length: characters of the prompt, in ranges."""
    floor: float | None = None
    max_regression: Margin | None = None
    """How far below the champion the slice's interval may reach."""
    min_rows: Positive = 30
    """A slice of fewer rows is shown, and not judged."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> SliceRule:
        if self.floor is None and self.max_regression is None:
            raise ValueError("a slice rule needs a floor, a max_regression, or both")
        return self


class Promote(Section):
    """Metric names are ``task/metric``."""

    floors: dict[str, float] = Field(min_length=1)
    max_regression: dict[str, Margin] = Field(default_factory=dict)
    """How far below the champion a metric's interval may reach, on the same test rows."""
    beats: dict[str, Baseline] = Field(default_factory=dict)
    """Baselines that a metric must be above: the 95 % interval of the paired difference."""
    slices: dict[str, tuple[SliceRule, ...]] = Field(default_factory=dict)
    min_rows: Positive = 1
    """Fewer test rows of a task than this: the gate says it cannot tell."""
    approvals: Positive = 1
    """Distinct reviewers needed before promotion."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that a rule names, once."""
        ruled = (self.floors, self.max_regression, self.beats, self.slices)
        return tuple(dict.fromkeys(metric for rules in ruled for metric in rules))
