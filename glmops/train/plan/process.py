"""What a process that trains holds beside its model: Python, libraries, what kernels set up once.

Measured where it will run: ``python -m glmops.train.plan.process SETTINGS ROOT`` trains next to
nothing by the same settings, and prints the most that it held, in bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import MachineError

if TYPE_CHECKING:
    from glmops.recipe import Train

_VOCABULARY = 64
GPU_CONTEXT = 500 * 2**20
"""Of a GPU's memory: the driver's context and the kernels' code."""


def start(settings: Train, root: Path) -> subprocess.Popen[str]:
    """Begin to measure; ``finish`` has the answer some seconds later."""
    told = [settings.model_dump_json(), str(root)]
    words = [sys.executable, "-m", "glmops.train.plan.process", *told]
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
            do="Mend that, then plan again.",
        )
    return int(said.split()[-1])


def main() -> None:
    from glmops.recipe import Train
    from glmops.train.lean import leave_out

    told = Train.model_validate_json(sys.argv[1])
    leave_out(told, Path(sys.argv[2]))
    from transformers import AutoModelForCausalLM

    from glmops.train import zero
    from glmops.train.export import save_weights
    from glmops.train.loop import Phase, fit
    from glmops.train.methods import METHODS, merged
    from glmops.train.peak import resident
    from glmops.train.rows import read_rows

    short = {"max_steps": 2, "epochs": None, "batch_size": 8, "batch_tokens": None}
    schedule = told.schedule.model_copy(update=short)
    lora = told.lora and told.lora.model_copy(update={"targets": ("q_proj",)})
    launch = told.launch.alone()
    changes = {"schedule": schedule, "lora": lora, "best": None, "launch": launch}
    settings = told.model_copy(update={**changes, "compile": False, "quantization": "none"})
    if launch.engine == "deepspeed":
        zero.join_alone()
    with tempfile.TemporaryDirectory() as place:
        rows = read_rows(_rows(Path(place) / "rows.arrow"), _VOCABULARY)
        base, model = Path(place) / "base", _next_to_nothing()
        if settings.method != "scratch":
            save_weights(base, model)
            model = AutoModelForCausalLM.from_pretrained(str(base))
        model = METHODS[settings.method](model, settings)
        phase = Phase("process", rows, rows, schedule, family="glm", pad=0, scratch=Path(place))
        fit(model, phase, settings)
        if settings.export == "merged":
            save_weights(base, merged(model))
    sys.stdout.write(f"{resident()}\n")


def _rows(path: Path) -> Path:
    """32 rows of 32 tokens, as the encode stage writes them.

    Made from text: from Python's lists, Arrow would import pandas, which no training does.
    """
    import pyarrow as pa
    from pyarrow import json as arrow_json

    row = {"input_ids": list(range(1, 33)), "loss_mask": [0] * 16 + [1] * 16}
    lines = "\n".join(json.dumps({"id": str(number), **row}) for number in range(32))
    kinds = {"id": pa.string(), "input_ids": pa.list_(pa.int32()), "loss_mask": pa.list_(pa.int8())}
    options = arrow_json.ParseOptions(explicit_schema=pa.schema(list(kinds.items())))
    table = arrow_json.read_json(pa.BufferReader(lines.encode()), parse_options=options)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return path


def _next_to_nothing() -> Any:
    """A model of a megabyte or so."""
    from transformers import GlmConfig, GlmForCausalLM

    config = GlmConfig(
        vocab_size=_VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        pad_token_id=0,
        eos_token_id=0,
    )
    return GlmForCausalLM(config)


if __name__ == "__main__":
    main()
