"""data/prepared/NAME → data/encoded/NAME: token ids, loss masks, tokenizer, contract."""

from __future__ import annotations

from glmops.encode.chunks import num_rows
from glmops.encode.dataset import encode_dataset
from glmops.recipe import Recipe
from glmops.storage import Layout, write_json, write_text
from pipelines.process import progress, run


def encode(layout: Layout, recipe: Recipe) -> str:
    settings = recipe.encode
    files = [layout.prepared / name for name in ("train.parquet", "dev.parquet")]
    with progress("encode", sum(map(num_rows, files))) as advance:
        account = encode_dataset(
            layout.prepared,
            settings,
            root=layout.root,
            folder=layout.encoded,
            cache=layout.root / ".glmops" / "cache" / "encode",
            on_rows=advance,
        )
    metrics, reports = account.metrics, layout.reports("encode")
    write_json(reports / "metrics.json", metrics)
    write_text(reports / "lengths.csv", account.plot)
    refused = metrics["train"]["refused"] + metrics["dev"]["refused"]
    said = f"{metrics['train']['rows']} train and {metrics['dev']['rows']} dev rows"
    left_out = (layout.encoded / "refused.jsonl").relative_to(layout.root)
    if refused:
        said += f"; {refused} LEFT OUT because they do not fit (see {left_out})"
    if cut := metrics["train"]["cut-prompts"] + metrics["dev"]["cut-prompts"]:
        said += f"; {cut} prompts cut"
    if cut := metrics["train"]["cut-histories"] + metrics["dev"]["cut-histories"]:
        said += f"; {cut} rows lost their oldest exchanges"
    for name, packed in metrics.get("packing", {}).items():
        said += f"; {name} in {packed['packs']} packs, {packed['fill']:.1%} full"
    return said


if __name__ == "__main__":
    run("encode", encode)
