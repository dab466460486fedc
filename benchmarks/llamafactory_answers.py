"""Answers by LLaMA-Factory's predict_with_generate, for ``benchmarks.answers_factory``.

Run in an environment of its own, with the arguments work folder and new tokens. Nothing of glmops
is imported. Its batch of 8 is the one of its examples; the clock runs from its first batch's end to
its last's, so that neither its start nor its metrics count.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

BATCH = 8


def main(work: str, new_tokens: str) -> None:
    import torch
    from llamafactory.train.tuner import run_exp
    from transformers import TrainerCallback

    torch.set_num_threads(1)
    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_prediction_step(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as out:
        arguments = {
            "model_name_or_path": f"{work}/model",
            "trust_remote_code": True,
            "stage": "sft",
            "do_predict": True,
            "predict_with_generate": True,
            "finetuning_type": "full",
            "dataset_dir": f"{work}/factory",
            "eval_dataset": "rows",
            "template": "empty",
            "cutoff_len": 2048,
            "preprocessing_num_workers": 1,
            "overwrite_cache": True,
            "per_device_eval_batch_size": BATCH,
            "max_new_tokens": int(new_tokens),
            "do_sample": False,
            "use_cpu": True,
            "report_to": "none",
            "output_dir": out,
        }
        run_exp(arguments, callbacks=[Clock()])
    rows = (len(times) - 1) * BATCH
    sys.stdout.write(f"\n{json.dumps({'rows_per_second': rows / (times[-1] - times[0])})}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
