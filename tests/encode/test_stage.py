from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import toy_model as toy

from glmops.contract import load_contract
from glmops.recipe import load_recipe
from glmops.records import Record, write_table
from glmops.storage import Layout, read_json
from pipelines.encode import encode

RECIPE = load_recipe(Path(__file__).parents[2], "demo")


def test_the_stage_takes_its_contract_from_the_recipe_and_says_what_it_left_out(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path, "demo")
    long = replace(toy.TRAIN[0], id="long", target="绿" * 999)
    write_table(layout.prepared / "train.parquet", [*toy.TRAIN, long], Record)
    write_table(layout.prepared / "dev.parquet", toy.DEV, Record)
    said = encode(layout, RECIPE)
    contract = load_contract(layout.encoded)
    assert (contract.template, contract.family) == (RECIPE.prepare.format, RECIPE.encode.family)
    assert contract.max_prompt_tokens == RECIPE.encode.max_prompt_tokens
    assert contract.max_answer_tokens == RECIPE.encode.max_answer_tokens
    assert read_json(layout.reports("encode") / "metrics.json")["train"]["refused"] == 1
    assert said.startswith("40 train and 8 dev rows; 1 LEFT OUT")
    assert "data/encoded/demo/refused.jsonl" in said
