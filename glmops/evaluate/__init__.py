"""Answers and scores. Knows no champion: whether a score is good enough is `promote`'s question."""

from glmops.evaluate.metrics import score

__all__ = ["score"]
