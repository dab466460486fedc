"""One epoch of LoRA by LLaMA-Factory, from its Llama-3 example configuration.

Run by ``benchmarks.train --llamafactory PYTHON`` in an environment of its own, with the arguments
work folder and changes to the configuration as JSON. Nothing of glmops is imported.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any


def main(work: str, changes: str) -> None:
    begun = time.perf_counter()
    import torch
    from llamafactory.train.tuner import run_exp
    from transformers import TrainerCallback

    torch.set_num_threads(1)
    times: list[tuple[float, float]] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            times.append((time.perf_counter(), time.process_time()))

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            times[1:] = [(time.perf_counter(), time.process_time())]

    with tempfile.TemporaryDirectory() as out:
        arguments = {
            "model_name_or_path": f"{work}/model",
            "trust_remote_code": True,
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "lora_rank": 8,
            "lora_target": "all",
            "dataset_dir": f"{work}/factory",
            "dataset": "rows",
            "template": "empty",
            "cutoff_len": 2048,
            "preprocessing_num_workers": 1,
            "overwrite_cache": True,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 8,
            "learning_rate": 1.0e-4,
            "num_train_epochs": 1.0,
            "lr_scheduler_type": "cosine",
            "warmup_ratio": 0.1,
            # What the example has beyond this (bf16, loader processes) is for a GPU.
            "use_cpu": True,
            "report_to": "none",
            "save_strategy": "no",
            "logging_steps": 10,
            "output_dir": out,
            **json.loads(changes),
        }
        run_exp(arguments, callbacks=[Clock()])
    (start, cpu_start), (end, cpu_end) = times
    found = {"start": start - begun, "wall": end - start, "cpu": cpu_end - cpu_start}
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
