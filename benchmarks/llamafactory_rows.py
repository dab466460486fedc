"""Encode rows as LLaMA-Factory's ``llamafactory-cli train`` does before its first step.

Run by ``benchmarks.encode --llamafactory PYTHON`` in an environment of its own, with the arguments
data folder, tokenizer folder, output folder. Nothing of glmops is imported.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time


def main(data: str, tokenizer: str, out: str) -> None:
    start = time.perf_counter()
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    imported = time.perf_counter() - start
    arguments = {
        "model_name_or_path": tokenizer,
        "stage": "sft",
        "do_train": True,
        "dataset_dir": data,
        "dataset": "rows",
        "template": "empty",
        "cutoff_len": 272,
        "preprocessing_num_workers": 4,
        "overwrite_cache": True,
        "tokenized_path": f"{out}/tokenized",
        "output_dir": f"{out}/model",
        "finetuning_type": "lora",
        "use_cpu": True,
    }
    model, rows, training, _, _ = get_train_args(arguments)
    loaded = load_tokenizer(model)
    template = get_template_and_fix_tokenizer(loaded["tokenizer"], rows)
    with contextlib.suppress(SystemExit):  # with tokenized_path it ends here, as it says it would
        get_dataset(template, model, rows, training, stage="sft", **loaded)
    seconds = time.perf_counter() - start
    own, children = (
        resource.getrusage(who).ru_maxrss / 1e6
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    found = {"seconds": seconds - imported, "own_gb": own, "child_gb": children}
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
