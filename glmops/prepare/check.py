"""What is in a raw file and which of its rows would be refused, without a recipe."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from glmops.prepare.formats import read
from glmops.prepare.rules import gate
from glmops.prepare.targets import labels_in
from glmops.records import TASKS


def check(path: Path | str, format: str) -> dict[str, Any]:
    """Counts and refusals of a raw file or folder, as one JSON-ready dict.

    What is accepted here passes the gate of ``prepare`` too, if the recipe declares its tasks.
    ``rows`` = ``accepted`` + ``refused``; ``duplicates`` are the accepted rows that repeat another.

    Raises:
        RecipeError: The format is unknown.
        InputError: The path or a whole file cannot be used.
    """
    records, refusals = read(path, format)
    rows = len(records) + len(refusals)
    tasks = [task for task in TASKS if any(record.task == task for record in records)]
    passed, refused = gate(records, tasks, str(path)) if records else ([], [])
    refusals = sorted([*refusals, *refused], key=lambda refusal: (refusal.file, refusal.line))
    accepted = rows - len(refusals)
    labels = Counter(
        label
        for record in passed
        if record.task == "classification"
        for label in labels_in(record.target)
    )
    return {
        "path": str(path),
        "format": format,
        "rows": rows,
        "accepted": accepted,
        "refused": len(refusals),
        "duplicates": accepted - len(passed),
        "tasks": dict(Counter(record.task for record in passed)),
        "labels": dict(labels.most_common()),
        "refusals": [
            {"file": refusal.file, "line": refusal.line, "reason": refusal.reason}
            for refusal in refusals
        ],
    }
