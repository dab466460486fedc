"""The prepare section: which raw rows, in which layout, and what must hold for them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from glmops.recipe.section import Fraction, Positive, Section
from glmops.records import Task
from glmops.templates import TEMPLATES

Format = Literal["toutiao", "adgen", "alpaca", "paper", "context-target", "conversations", "table"]
Columns = dict[str, str | Annotated[int, Field(ge=1)]]
OWN_TEMPLATES: dict[str, str] = {
    "toutiao": "headline-category",
    "adgen": "ad-text",
    "alpaca": "instruction",
    "paper": "paper-label",
    "context-target": "context-target",
    "conversations": "instruction",
}
"""Format → the template that its rows are read with when nothing else is said. Papers without
labels are read as paper-keywords; a table has no template of its own."""


class SourceSettings(Section):
    """Rows of one layout: which files below the raw path, and how they are read."""

    format: Format
    files: str = ""
    """A glob below the raw path; empty: every file there with one of the format's name endings."""
    template: str | None = None
    """How a row becomes prompt and answer; None: the format's own template."""
    columns: Columns = Field(default_factory=dict)
    """Only for tables: field → column name, or its position from 1 in a file without a header."""
    separator: str | None = Field(default=None, min_length=1)
    """Only for tables: what stands between two columns; None: the file name's ending tells."""
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How often a row counts in train; dev and test hold every row once."""
    side: Literal["train", "dev", "test"] | None = None
    """The split that all its rows belong to, for published splits; None: prepare.split decides."""
    encoding: Literal["auto", "utf-8", "gb18030"] = "auto"
    """auto: UTF-8, else GB18030 if the whole file is that; what was found is always reported."""

    @model_validator(mode="after")
    def _table_is_mapped(self) -> SourceSettings:
        if self.template is not None and self.template not in TEMPLATES:
            raise ValueError(f"unknown template {self.template!r}, known: {', '.join(TEMPLATES)}")
        if self.format != "table":
            if self.columns or self.separator:
                raise ValueError("columns and separator belong to the format table alone")
            return self
        if not self.columns or self.template is None:
            raise ValueError("the format table needs columns (field: column) and a template")
        kinds = {type(column) for column in self.columns.values()}
        if len(kinds) > 1:
            raise ValueError("columns are given by name or by position, not some by each")
        template = TEMPLATES[self.template]
        needed, known = template.needed, template.fields
        if template.turns:  # earlier exchanges: a list of [question, answer] pairs
            known = (*known, "history")
        if missing := [name for name in needed if name not in self.columns]:
            what = f"the template {self.template} needs {', '.join(missing)} among the columns"
            raise ValueError(what)
        if strange := [name for name in self.columns if name not in {*needed, *known, "id"}]:
            what = f"the template {self.template} has no field {', '.join(strange)}"
            raise ValueError(f"{what}; it has {', '.join(dict.fromkeys((*known, *needed, 'id')))}")
        return self


class Split(Section):
    """Shares of the groups (source texts) that go to dev and test; the rest is train."""

    dev: Annotated[float, Field(gt=0, lt=0.5)]
    test: Annotated[float, Field(gt=0, lt=0.5)]
    seed: int


class MaxRefused(Section):
    """How many raw rows may be refused before the stage fails: both limits hold."""

    rows: Annotated[int, Field(ge=0)]
    share: Fraction


class Lengths(Section):
    """Fewest and most characters. Longer than the default is a file without its line breaks."""

    prompt: tuple[Annotated[int, Field(ge=0)], Positive] = (1, 100_000)
    target: tuple[Annotated[int, Field(ge=1)], Positive] = (1, 100_000)

    @model_validator(mode="after")
    def _in_order(self) -> Lengths:
        for fewest, most in (self.prompt, self.target):
            if fewest > most:
                raise ValueError(f"the fewest characters come first, got [{fewest}, {most}]")
        return self


class Duplicates(Section):
    """Exact: the same prompt and target. Near: texts of at least ``threshold`` alike (Jaccard)."""

    exact: Literal["drop"] = "drop"
    near: Literal["report", "drop"] = "report"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.9


class Prepare(Section):
    """Either one ``format`` for everything at the raw path, or several ``sources`` there."""

    format: Format | None = None
    template: str | None = None
    columns: Columns = Field(default_factory=dict)
    separator: str | None = None
    sources: tuple[SourceSettings, ...] = ()
    encoding: Literal["auto", "utf-8", "gb18030"] = "auto"
    tasks: tuple[Task, ...] = Field(min_length=1)
    labels: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The labels that may occur; None: those that are found."""
    lengths: Lengths = Lengths()
    placeholders: Literal["refuse", "keep"] = "keep"
    """Rows with stand-ins such as <UNK>, BRAND or {{name}}; kept ones are counted."""
    duplicates: Duplicates = Duplicates()
    conflicts: Literal["refuse", "keep"] = "refuse"
    """Rows that give the same text different labels."""
    leaks: Literal["refuse", "keep"] = "refuse"
    """Rows whose text, or a near copy of it, is on another side of the split already."""
    split: Split
    max_refused: MaxRefused

    @model_validator(mode="after")
    def _one_way_to_name_rows(self) -> Prepare:
        if (self.format is None) == (not self.sources):
            raise ValueError("give either format or sources")
        if self.sources and (self.template or self.columns or self.separator):
            raise ValueError("template, columns and separator belong into each of the sources")
        try:
            _ = self.all_sources
        except ValidationError as error:  # the one source's own rules, in their own words
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        return self

    def _with_encoding(self, source: SourceSettings) -> SourceSettings:
        said = "encoding" in source.model_fields_set
        return source if said else source.model_copy(update={"encoding": self.encoding})

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates of all sources, each once."""
        named = (source.template or OWN_TEMPLATES[source.format] for source in self.all_sources)
        return tuple(dict.fromkeys(named))

    @property
    def all_sources(self) -> tuple[SourceSettings, ...]:
        """What to read, in order; a source that says no encoding has the section's."""
        if self.format is None:
            unsaid = {"encoding": self.encoding}
            return tuple(
                source
                if "encoding" in source.model_fields_set
                else source.model_copy(update=unsaid)
                for source in self.sources
            )
        return (
            SourceSettings(
                format=self.format,
                template=self.template,
                columns=self.columns,
                separator=self.separator,
                encoding=self.encoding,
            ),
        )
