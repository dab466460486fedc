"""DeepSpeed, through the Hugging Face Trainer: its settings, and whole weights out of its parts.

torch's own fused AdamW steps the weights, in the host's memory too: DeepSpeed's is built by a
compiler at its first use, which a machine that trains need not have.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import torch

from glmops.errors import MachineError
from glmops.recipe import Train
from glmops.train import ranks


def deepspeed_settings(settings: Train) -> dict[str, Any] | None:
    """What TrainingArguments takes as ``deepspeed``; None where another engine trains.

    Source of the loss scale and of the buckets: THUDM/ChatGLM-6B, ptuning/deepspeed.json.
    """
    if not torch.cuda.is_available():
        # Where it is installed, accelerate imports it for any engine, and it prints a warning.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    launch = settings.launch
    if launch.engine != "deepspeed":
        return None
    zero: dict[str, Any] = {
        "stage": launch.zero,
        "overlap_comm": False,
        "reduce_bucket_size": 5e8,
        "allgather_bucket_size": 5e8,
        "contiguous_gradients": True,
    }
    if launch.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        # Trainer fills these in from its own arguments.
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": settings.precision == "bfloat16"},
        "fp16": {
            "enabled": settings.precision == "float16",
            "loss_scale": 0,
            "initial_scale_power": 16,
            "loss_scale_window": 1000,
            "hysteresis": 2,
            "min_loss_scale": 1,
        },
    }


def require_deepspeed() -> None:
    """
    Raises:
        MachineError: It is not installed.
    """
    from importlib.util import find_spec

    if find_spec("deepspeed") is None:
        raise MachineError(
            "train.launch.engine",
            "deepspeed is not installed here",
            do='Install it: pip install -c constraints.txt "glmops[deepspeed]".',
        )


def need_no_compiler() -> None:
    """On a CPU DeepSpeed would compile a faster gloo before it starts; plain gloo does as well."""
    if torch.cuda.is_available():
        return
    from deepspeed import ops

    ops.__compatible_ops__ = {}


def join_alone() -> None:
    """Be a group of one, as if torchrun had started this process: DeepSpeed trains in no other."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    numbers = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": str(port)}
    os.environ.update(numbers, MASTER_ADDR="127.0.0.1")
    ranks.join()
    need_no_compiler()


def whole(weight: Any) -> torch.Tensor:
    """The values of a weight, in float32 where it is trained.

    Under DeepSpeed every process must call this: the forward pass may use half-precision copies,
    and under ZeRO-3 a process holds a part of each weight only.
    """
    if not (hasattr(weight, "_hp_mapping") or hasattr(weight, "ds_id")):
        return weight.detach()
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_get_full_fp32_param

    if weight.requires_grad:
        return safe_get_full_fp32_param(weight).detach()
    with GatheredParameters([weight]):
        return weight.detach().clone()


def put_slot(weight: Any, slot: str, value: torch.Tensor) -> None:
    """Let the optimiser go on with ``value`` as its ``slot`` (``exp_avg``) of a whole weight."""
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    if not hasattr(weight, "ds_id"):
        safe_set_full_optimizer_state(weight, value, slot)
        return
    # ZeRO-3's own setter of whole values overlooks that the parts are padded to equal lengths.
    size = weight.ds_tensor.numel()
    padded = torch.zeros(size * ranks.count(), dtype=value.dtype)
    padded[: value.numel()] = value.flatten()
    safe_set_local_optimizer_state(weight, padded[size * ranks.number() :][:size], slot)


def close(trainer: Any) -> None:
    """Leave the first process with a plain model of whole weights, and all without DeepSpeed.

    The others keep a model that is of no more use. Every process must call this.
    """
    engine, model = trainer.model_wrapped, trainer.model
    plain: dict[int, torch.nn.Parameter] = {}
    for weight in model.parameters():
        value = whole(weight)
        if ranks.is_first():
            value = value.to("cpu", copy=True)
            plain[id(weight)] = torch.nn.Parameter(value, requires_grad=weight.requires_grad)
    if engine is not model:  # which has nothing to do where the run is over already
        engine.destroy()
    if ranks.is_first():
        for module in model.modules():
            # In a new dict: the one of ZeRO-3 fetches its entries from the other processes. Tied
            # weights stay tied.
            module.__dict__["_parameters"] = {
                name: None if weight is None else plain[id(weight)]
                for name, weight in module._parameters.items()
            }
    # Else the next model would be split while it is loaded.
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
