"""What flows between the stages: a row, a refusal, an answer, one metric of one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar

from glmops.errors import InputError

Task = Literal["classification", "triples", "keywords", "generation"]
TASKS: tuple[Task, ...] = ("classification", "triples", "keywords", "generation")
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Record:
    """One validated row, ready to be placed into its prompt template.

    ``head + body + cue`` is the prompt, ``target`` the answer. Only ``body`` may ever be shortened.
    """

    id: str
    task: Task
    head: str
    body: str
    cue: str
    target: str
    group: str
    """Rows of one group stay on one side of the split (the source text, without the question)."""
    file: str
    line: int
    template: str = ""
    """The name under which ``glmops.templates`` knows how this row was written."""
    source: int = 0
    """Which of the recipe's sources the row came from, counted from 0."""
    turns: str = ""
    """Characters of each earlier exchange at the start of ``head``, oldest first: "31,12"."""

    @property
    def prompt(self) -> str:
        return self.head + self.body + self.cue


@dataclass(frozen=True, slots=True)
class Refusal:
    """One raw row that did not pass, and why. ``line`` counts from 1; 0 means the whole file."""

    file: str
    line: int
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model wrote for one row. ``finished`` is false when it ran out of tokens."""

    id: str
    task: Task
    prompt: str
    target: str
    answer: str
    finished: bool


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one row, as a fraction: a set's value is ``sum(numerator) / sum(denominator)``.

    Accuracy has denominator 1; micro F1 has 2·matched over predicted + expected. Because every
    metric adds up this way, a gate can resample rows without knowing what the metric means.
    """

    id: str
    task: Task
    metric: str
    numerator: float
    denominator: float


@dataclass(frozen=True, slots=True)
class BaselineScore:
    """One metric of one row, of what a baseline answered."""

    id: str
    task: Task
    metric: str
    numerator: float
    denominator: float
    baseline: str


@dataclass(frozen=True, slots=True)
class LabelLikelihood:
    """How likely a model finds one label as the answer to one row."""

    id: str
    label: str
    log_probability: float
    """Nats, of the whole label and the end behind it."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of the test set that one row belongs to, by one property of the row."""

    id: str
    by: str
    value: str


Row = TypeVar("Row", Record, Refusal, Score, BaselineScore, LabelLikelihood, Slice)


def write_table(path: Path, rows: Sequence[Row], kind: type[Row]) -> None:
    """Rows as Parquet, in their order; no rows still gives a file with every column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    schema = pa.schema([(f.name, types.get(str(f.type), pa.string())) for f in fields(kind)])
    columns = [[getattr(row, name) for row in rows] for name in schema.names]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    pq.write_table(pa.table(columns, schema=schema), draft)
    draft.replace(path)


def read_table(path: Path, kind: type[Row]) -> list[Row]:
    """The rows that ``write_table`` wrote, also before ``kind`` got its last fields.

    Raises:
        InputError: No such file, or one with other columns.
    """
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(path, "no such file", do="Run the stage that writes it.")
    table = pq.read_table(path)
    if table.column_names != [f.name for f in fields(kind)][: table.num_columns]:
        got = ", ".join(table.column_names)
        do = "Run the stage that writes it."
        raise InputError(path, f"its columns are not those of a {kind.__name__}", got=got, do=do)
    return list(map(kind, *(column.to_pylist() for column in table.columns)))
