"""data/prepared/NAME → data/encoded/NAME: token ids, loss masks, tokenizer, contract."""

from __future__ import annotations

from glmops.contract import contract_for
from glmops.encode.dataset import encode_dataset
from glmops.recipe import Recipe
from glmops.records import Record, read_table
from glmops.storage import Layout, write_json
from pipelines.process import progress, run


def encode(layout: Layout, recipe: Recipe) -> str:
    settings = recipe.encode
    train = read_table(layout.prepared / "train.parquet", Record)
    dev = read_table(layout.prepared / "dev.parquet", Record)
    contract = contract_for(
        recipe.prepare.format,
        settings.family,
        max_prompt_tokens=settings.max_prompt_tokens,
        max_answer_tokens=settings.max_answer_tokens,
    )
    with progress("encode", len(train) + len(dev)) as advance:
        metrics = encode_dataset(
            train,
            dev,
            contract,
            vocab_size=settings.tokenizer.vocab_size,
            folder=layout.encoded,
            on_row=lambda: advance(1),
        )
    write_json(layout.reports("encode") / "metrics.json", metrics)
    refused = metrics["train"]["refused"] + metrics["dev"]["refused"]
    said = f"{metrics['train']['rows']} train and {metrics['dev']['rows']} dev rows"
    left_out = (layout.encoded / "refused.jsonl").relative_to(layout.root)
    if refused:
        said += f"; {refused} LEFT OUT because they do not fit (see {left_out})"
    if cut := metrics["train"]["cut-prompts"] + metrics["dev"]["cut-prompts"]:
        said += f"; {cut} prompts cut"
    return said


if __name__ == "__main__":
    run("encode", encode)
