from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from glmops.errors import InputError, IntegrityError
from glmops.promote.package import Package, build, manifest_of, scores, sections_of, verify
from glmops.storage import read_json, sha256_json, sha256_tree, write_json


def made(workshop, out: Path, **overrides) -> Package:
    return build(workshop.layout, sections_of(workshop.recipe), overrides=overrides, out=out)


def test_equal_inputs_give_equal_digests_in_any_place(workshop, elsewhere) -> None:
    time.sleep(0.01)
    elsewhere.train("first")
    first = made(workshop, workshop.root / "a")
    assert made(elsewhere, elsewhere.root / "b").digest == first.digest
    assert str(workshop.root) not in json.dumps(first.manifest)


def test_a_digest_is_found_without_copying(workshop) -> None:
    sections = sections_of(workshop.recipe)
    quick = manifest_of(workshop.layout, sections, overrides={})
    assert quick == made(workshop, workshop.root / "out")
    assert quick.digest == sha256_json(read_json(workshop.root / "out" / "manifest.json"))


def test_a_package_holds_model_and_evaluation_and_nothing_else(workshop) -> None:
    made(workshop, workshop.root / "out")
    assert list(sha256_tree(workshop.root / "out")) == [
        "evaluation/answers.jsonl",
        "evaluation/scorecard.json",
        "evaluation/scores.parquet",
        "manifest.json",
        "model/config.json",
        "model/contract.json",
        "model/lineage.json",
        "model/model.safetensors",
    ]
    assert len(scores(workshop.root / "out")) == 240


def test_a_policy_is_no_content(workshop) -> None:
    before = made(workshop, workshop.root / "a")
    workshop.rules(min_rows=7)
    assert made(workshop, workshop.root / "b").digest == before.digest
    assert "promote" not in before.manifest["sections"]


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.train("second"),
        lambda w: w.train("first", right=113),
        lambda w: w.train("first", test="b"),
        lambda w: (w.layout.prepared / "dev.parquet").write_bytes(b"other rows"),
        lambda w: (w.layout.model / "extra.json").write_text("{}"),
    ],
)
def test_other_content_is_another_digest(workshop, change) -> None:
    before = made(workshop, workshop.root / "a")
    change(workshop)
    assert made(workshop, workshop.root / "b").digest != before.digest


def test_a_run_with_other_values_is_another_candidate_and_says_so(workshop) -> None:
    plain = made(workshop, workshop.root / "a")
    changed = made(workshop, workshop.root / "b", **{"train.seed": 2})
    assert changed.digest != plain.digest
    assert changed.manifest["overrides"] == {"train.seed": 2}


def test_a_whole_package_verifies(workshop) -> None:
    package = made(workshop, workshop.root / "out")
    assert verify(workshop.root / "out", package.digest) == package


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda f: _append(f / "model/model.safetensors"), "model/model.safetensors"),
        (lambda f: (f / "model/config.json").unlink(), "model/config.json"),
        (lambda f: (f / "model/pickle.bin").write_bytes(b"x"), "model/pickle.bin"),
        (lambda f: _link(f / "model/config.json"), "model/config.json"),
        (lambda f: (f / "model/gone").symlink_to("nowhere"), "model/gone"),
    ],
)
def test_a_harmed_package_is_refused_by_the_files_name(workshop, harm, named: str) -> None:
    folder = workshop.root / "out"
    made(workshop, folder)
    harm(folder)
    with pytest.raises(IntegrityError, match=f"got '{named}'"):
        verify(folder)


def test_a_rewritten_manifest_is_refused_by_its_digest(workshop) -> None:
    folder = workshop.root / "out"
    package = made(workshop, folder)
    write_json(folder / "manifest.json", {**package.manifest, "recipe": "other"})
    with pytest.raises(IntegrityError, match="another digest"):
        verify(folder, package.digest)


def test_harming_a_package_by_replacing_a_file_leaves_the_checkpoint(workshop) -> None:
    """Hard links share bytes; stages and DVC replace files, they never write into them."""
    folder = workshop.root / "out"
    made(workshop, folder)
    kept = (folder / "model/model.safetensors").read_bytes()
    shutil.rmtree(workshop.layout.model)
    workshop.train("second")
    assert (folder / "model/model.safetensors").read_bytes() == kept


@pytest.mark.parametrize(
    "path",
    ["models/demo", "reports/demo/evaluate/scorecard.json", "reports/demo/evaluate/scores.parquet",
     "data/prepared/demo/dev.parquet"],
)  # fmt: skip
def test_a_missing_stage_output_is_named(workshop, path: str) -> None:
    target = workshop.root / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(InputError, match=path.rsplit("/", 1)[-1]):
        made(workshop, workshop.root / "out")
    assert not (workshop.root / "out").exists()


def test_a_checkpoint_whose_lineage_names_another_contract_is_refused(workshop) -> None:
    path = workshop.layout.model / "lineage.json"
    write_json(path, {**read_json(path), "contract": "0" * 64})
    with pytest.raises(IntegrityError, match="lineage"):
        made(workshop, workshop.root / "out")


def _append(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()  # the other end of the hard link keeps its bytes
    path.write_bytes(content[:-1] + b"!")


def _link(path: Path) -> None:
    content = path.read_bytes()
    outside = path.parents[3] / "outside.json"
    outside.write_bytes(content)
    path.unlink()
    os.symlink(outside, path)
