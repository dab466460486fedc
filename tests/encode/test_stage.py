from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import toy_model as toy
from glmops.contract import load_contract
from glmops.recipe import load_recipe
from glmops.storage import Layout, read_json
from pipelines.encode import encode

RECIPE = load_recipe(Path(__file__).parents[2], "demo")


def test_the_stage_takes_its_contract_from_rows_and_recipe_and_says_what_it_left_out(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path, "demo")
    long = replace(toy.TRAIN[0], id="long", target="绿" * 999)
    toy.write_prepared(layout.prepared, [*toy.TRAIN, long])
    said = encode(layout, RECIPE)
    contract = load_contract(layout.encoded)
    assert (list(contract.templates), contract.family) == ([long.template], RECIPE.encode.family)
    assert contract.max_prompt_tokens == RECIPE.encode.max_prompt_tokens
    assert contract.max_answer_tokens == RECIPE.encode.max_answer_tokens
    metrics = read_json(layout.reports("encode") / "metrics.json")
    assert metrics["train"]["refused-for"] == {"answer": 1, "prompt": 0}
    assert said.startswith("40 train and 8 dev rows; 1 LEFT OUT")
    assert "data/encoded/demo/refused.jsonl" in said
    with (layout.reports("encode") / "lengths.csv").open() as file:
        assert sum(int(line["row"]) for line in csv.DictReader(file)) == len(toy.TRAIN)


def test_a_packed_recipe_says_how_full_its_packs_are(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "demo")
    toy.write_prepared(layout.prepared)
    packing = {"packing": "best-fit", "pack_tokens": 512}
    packed = RECIPE.encode.model_validate(
        {**RECIPE.encode.model_dump(exclude_unset=True), **packing}
    )
    said = encode(layout, RECIPE.model_copy(update={"encode": packed}))
    fill = read_json(layout.reports("encode") / "metrics.json")["packing"]["train"]
    assert f"train in {fill['packs']} packs, {fill['fill']:.1%} full" in said
