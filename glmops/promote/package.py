"""A candidate as one folder of files that name themselves: weights, contract, scores, manifest.

    manifest.json     what this is, made from what; its hash is the candidate's digest
    model/            models/NAME as it is: weights, tokenizer, contract.json, lineage.json
    evaluation/       scorecard.json, scores.parquet, answers.jsonl, and what else was measured

The manifest holds no time, host, commit or run id, and not the promote section: a policy is no
content. So equal inputs give equal digests, on any machine and in any year.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from glmops.contract import load_contract
from glmops.errors import InputError, IntegrityError
from glmops.recipe import Recipe
from glmops.records import SPLITS, BaselineScore, Score, Slice, read_table
from glmops.storage import (
    STAGES,
    Layout,
    fresh_folder,
    read_json,
    sha256_file,
    sha256_json,
    write_json,
)

FORMAT = "glmops-package/1"
EVALUATION = ("scorecard.json", "scores.parquet", "answers.jsonl")
"""Without these there is no candidate."""
ALSO_MEASURED = ("likelihoods.parquet", "baselines.parquet", "slices.parquet", "calibration.csv")
"""As far as the evaluate stage wrote them."""


@dataclass(frozen=True, slots=True)
class Package:
    """A manifest and the digest that stands for it."""

    digest: str
    manifest: dict[str, Any]

    @property
    def test_set(self) -> dict[str, Any]:
        """What the scores are scores of: the test rows, and the versions of the metrics."""
        return dict(self.manifest["test"])


def sections_of(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe makes its model: the description and the four stages' sections."""
    return recipe.model_dump(mode="json", include={"description", *STAGES})


def manifest_of(
    layout: Layout, sections: Mapping[str, Any], *, overrides: Mapping[str, Any]
) -> Package:
    """The package that the stage outputs at ``layout`` would make, without copying anything.

    Args:
        sections: From ``sections_of``.
        overrides: What this run changed, as JSON: ``-S`` values and hashes of other raw rows.
    Raises:
        InputError: A stage output is missing.
        IntegrityError: The checkpoint's lineage names another contract than it carries.
    """
    sources = _sources(layout)
    scorecard = read_json(layout.reports("evaluate") / "scorecard.json")
    lineage = read_json(layout.model / "lineage.json")
    contract = load_contract(layout.model).hash()
    if lineage["contract"] != contract:
        raise IntegrityError(
            layout.model,
            "contract.json is not the contract that lineage.json names",
            got=contract,
            do="Train again.",
        )
    manifest = {
        "format": FORMAT,
        "recipe": layout.name,
        "description": sections["description"],
        "sections": {stage: sections[stage] for stage in STAGES},
        "overrides": dict(overrides),
        "base": lineage["base"],
        "contract": contract,
        "data": {split: sha256_file(layout.prepared / f"{split}.parquet") for split in SPLITS},
        "test": scorecard["test"],
        "scorecard": scorecard,
        "files": {name: _fingerprint(path) for name, path in sorted(sources.items())},
    }
    return Package(sha256_json(manifest), manifest)


def build(
    layout: Layout, sections: Mapping[str, Any], *, overrides: Mapping[str, Any], out: Path
) -> Package:
    """Write the package to the folder ``out``, which appears only when it is whole."""
    package = manifest_of(layout, sections, overrides=overrides)
    with fresh_folder(out) as folder:
        for name, source in _sources(layout).items():
            _place(source, folder / name)
        write_json(folder / "manifest.json", package.manifest)
    return package


def verify(folder: Path, digest: str | None = None) -> Package:
    """Hash every file of a package again.

    Args:
        digest: The digest that the package must have; None accepts any.
    Raises:
        IntegrityError: Names the first file that differs, is missing or does not belong.
    """
    manifest = read_json(folder / "manifest.json")
    found = sha256_json(manifest)
    if digest is not None and found != digest:
        raise _broken(folder, "manifest.json has another digest than was asked for", found)
    expected = manifest["files"]
    present = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    del present["manifest.json"]
    for name in sorted(expected.keys() | present.keys()):
        if name not in present:
            raise _broken(folder, "a file is missing", name)
        if name not in expected or present[name].is_symlink():
            raise _broken(folder, "a file does not belong to the package", name)
        if _fingerprint(present[name]) != expected[name]:
            raise _broken(folder, "a file's bytes are not the recorded ones", name)
    return Package(found, manifest)


def scores(folder: Path) -> list[Score]:
    """The per-row scores inside a package."""
    return read_table(folder / "evaluation" / "scores.parquet", Score)


class Evaluation(NamedTuple):
    """What the gate looks at."""

    scores: list[Score]
    baselines: list[BaselineScore]
    slices: list[Slice]


def evaluation(folder: Path) -> Evaluation:
    """What is stored in ``reports/NAME/evaluate``, or in ``evaluation`` of a package."""
    baselines, slices = folder / "baselines.parquet", folder / "slices.parquet"
    return Evaluation(
        read_table(folder / "scores.parquet", Score),
        read_table(baselines, BaselineScore) if baselines.is_file() else [],
        read_table(slices, Slice) if slices.is_file() else [],
    )


def _sources(layout: Layout) -> dict[str, Path]:
    """Name inside the package → the file it comes from."""
    model = _files(layout.model)
    if not model:
        raise InputError(layout.model, "no checkpoint there", do="Run the train stage.")
    reports = layout.reports("evaluate")
    sources = {f"model/{path.relative_to(layout.model).as_posix()}": path for path in model}
    measured = (name for name in ALSO_MEASURED if (reports / name).is_file())
    sources |= {f"evaluation/{name}": reports / name for name in (*EVALUATION, *measured)}
    needed = [*sources.values(), *(layout.prepared / f"{split}.parquet" for split in SPLITS)]
    for path in needed:
        if not path.is_file():
            raise InputError(path, "no such file", do="Run the stage that writes it.")
    return sources


def _files(folder: Path) -> list[Path]:
    """Everything below a folder that is not a folder: a broken link counts, and is then missed."""
    return [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size}


def _place(source: Path, target: Path) -> None:
    """A hard link where the file system allows it: weights are large and never edited in place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _broken(folder: Path, what: str, got: str) -> IntegrityError:
    return IntegrityError(folder, what, got=got, do="Do not use this copy; make it again.")
