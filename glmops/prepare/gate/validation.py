"""The gate: great-expectations judges the facts, and its Data Docs show what it saw.

A row that breaks a row rule is refused and named. A table that breaks a table rule stops the stage.
A rule that could not be evaluated is a fault of the gate, never of the data.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import GlmopsError, InputError
from glmops.prepare.gate.suites import Suite

if TYPE_CHECKING:
    import polars as pl

RUN = "prepare"
# The pages say nothing of the run that made them: equal rows give equal bytes.
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(r"\b\d{8}T\d{6}\.\d{6}Z\b")
_UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
# The logo is fetched from the maker's server with an id of this installation: use the local one.
_TRACKER = re.compile(r'src="https://great-expectations-web-assets[^"]*"')


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that does not hold, and the places of all rows that break it (of the frame given)."""

    fact: str
    meta: dict[str, Any]
    rows: Any


@dataclass(frozen=True, slots=True)
class Gate:
    """A great-expectations context whose validations become one site."""

    context: Any
    batches: Any
    """What a validation is told that its rows are; the rows themselves are given to each run."""

    def broken(self, suite: Suite, facts: pl.DataFrame) -> list[Broken]:
        """The rules of a suite that do not hold for ``facts``, in the suite's order.

        Raises:
            GlmopsError: A rule could not be evaluated.
        """
        places = _places(suite, facts)
        frame = facts if places is None else facts[places]
        if suite.columns:
            frame = frame.select(name for name in suite.columns if name in frame.columns)
        broken = []
        results = _validate(self, suite, frame)
        order = [rule.meta["reason"] for rule in suite.rules]
        # great-expectations answers in an order of its own.
        results.sort(key=lambda result: order.index(result.expectation_config.meta["reason"]))
        for result in results:
            _require_evaluated(suite, result)
            if not result.success:
                config = result.expectation_config
                rows = result.result.get("unexpected_index_list") or []
                broken.append(
                    Broken(
                        config.kwargs.get("column", ""),
                        config.meta,
                        rows if places is None else places[rows],
                    )
                )
        return broken

    def require(self, suites: Sequence[Suite], facts: pl.DataFrame, where: str) -> None:
        """Stop at the first broken rule of suites about the whole set."""
        for suite in suites:
            for rule in self.broken(suite, facts):
                raise InputError(where, rule.meta["reason"], do=rule.meta["do"])


@contextmanager
def open_gate(docs: Path | None = None) -> Iterator[Gate]:
    """A gate; what it saw is written to the folder ``docs`` as a site, however the block ends."""
    import great_expectations as gx

    with tempfile.TemporaryDirectory(prefix="glmops-gate-") as scratch:
        context = gx.get_context(mode="file", project_root_dir=scratch)
        context.enable_analytics(False)
        context.variables.progress_bars = {"globally": False}
        asset = context.data_sources.add_pandas("prepare").add_dataframe_asset("facts")
        # Once: every change of the context writes its whole configuration.
        batches = asset.add_batch_definition_whole_dataframe("all")
        try:
            yield Gate(context, batches)
        finally:
            if docs is not None:
                _publish(context, docs)


def _places(suite: Suite, facts: pl.DataFrame) -> Any:
    """The places of the rows that a suite is about; None: all of them."""
    import polars as pl

    if suite.task is None and suite.sources is None:
        return None
    chosen = pl.lit(True)
    if suite.task is not None:
        chosen &= pl.col("task") == suite.task
    if suite.sources is not None:
        chosen &= pl.col("source").is_in(suite.sources)
    places = facts.select(pl.arg_where(chosen)).to_series().to_numpy()
    return None if len(places) == len(facts) else places


def _validate(gate: Gate, suite: Suite, frame: pl.DataFrame) -> list[Any]:
    import great_expectations as gx

    rules = gate.context.suites.add(
        gx.ExpectationSuite(name=suite.name, expectations=list(suite.rules))
    )
    definition = gate.context.validation_definitions.add(
        gx.ValidationDefinition(name=suite.name, data=gate.batches, suite=rules)
    )
    done = definition.run(
        batch_parameters={"dataframe": frame.to_pandas()},
        # COMPLETE: every row that breaks a rule, not the first twenty.
        result_format={"result_format": "COMPLETE"},
        run_id=gx.RunIdentifier(run_name=RUN, run_time=_NO_TIME),
    )
    return list(done.results)


def _require_evaluated(suite: Suite, result: Any) -> None:
    info = result.exception_info or {}
    # One report per rule, or one per metric that the rule is made of.
    for report in [info] if "raised_exception" in info else info.values():
        if report["raised_exception"]:
            raise GlmopsError(
                f"prepare gate, suite {suite.name}, {result.expectation_config.type}",
                "the rule could not be evaluated",
                got=report["exception_message"],
                do="This is a fault of the gate, not of the rows: please report it.",
            )


def _publish(context: Any, docs: Path) -> None:
    """The Data Docs as a site of equal bytes for equal results, which asks no server for a logo."""
    context.build_data_docs()
    site = Path(context.root_directory) / "uncommitted" / "data_docs" / "local_site"
    for page in site.rglob("*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        text = page.read_text(encoding="utf-8")
        text = _TRACKER.sub(f'src="{up}static/images/logo-long.png"', text)
        text = _UUID.sub("0", _TIME.sub("19700101T000000.000000Z", text))
        page.write_text(text, encoding="utf-8")
    # Four megabytes of fonts and of films that explain great-expectations.
    shutil.rmtree(site / "static" / "fonts")
    for film in (site / "static" / "images").glob("*.gif"):
        film.unlink()
    shutil.copytree(site, docs, dirs_exist_ok=True)
