"""What a process that trains holds beside its model: Python, libraries, what kernels set up once.

Measured where it will run: ``python -m glmops.train.plan.process PRECISION METHOD [checkpointing]``
trains next to nothing that way, and prints the most that it held, in bytes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import MachineError

if TYPE_CHECKING:
    from glmops.recipe import Train

GPU_CONTEXT = 500 * 2**20
"""Of a GPU's memory: the driver's context and the kernels' code."""


def start(settings: Train) -> subprocess.Popen[str]:
    """Begin to measure; ``finish`` has the answer some seconds later."""
    words = [sys.executable, "-m", "glmops.train.plan.process", settings.precision, settings.method]
    words += ["checkpointing"] * settings.gradient_checkpointing
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> int:
    """Bytes.

    Raises:
        MachineError: It did not come to its end.
    """
    said, complaint = process.communicate()
    if process.returncode:
        raise MachineError(
            "a process that trains next to nothing",
            "it ended early",
            got=complaint.strip().rpartition("\n")[2] or f"exit code {process.returncode}",
            do="Run `glmops doctor`.",
        )
    return int(said.split()[-1])


def peak_bytes() -> int:
    """The most that this process ever held. (getrusage begins with what its parent held.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise MachineError("/proc/self/status", "has no VmHWM", do="Plan on Linux.")


def main() -> None:
    from transformers import Trainer, TrainingArguments

    from glmops.train.candidate import train_candidate

    assert callable(train_candidate)
    precision, method, *more = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=2,
            use_cpu=True,
            bf16=precision == "bfloat16",
            activation_checkpointing=bool(more),
            activation_checkpointing_kwargs={"use_reentrant": False},
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        model, rows = _next_to_nothing(method)
        Trainer(model, arguments, train_dataset=rows).train()
        model.save_pretrained(folder)
    sys.stdout.write(f"{peak_bytes()}\n")


def _next_to_nothing(method: str) -> tuple[Any, Any]:
    """A model of a megabyte or so, which takes each kernel's own workspace, and four rows."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GlmConfig, GlmForCausalLM

    config = GlmConfig(
        vocab_size=64,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        pad_token_id=0,
        eos_token_id=0,
    )
    model: Any = GlmForCausalLM(config)
    if method == "lora":
        model = get_peft_model(model, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    row = {"input_ids": torch.ones(64, dtype=torch.long), "labels": torch.ones(64).long()}
    return model, [row] * 16


if __name__ == "__main__":
    main()
