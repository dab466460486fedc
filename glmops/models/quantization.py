"""bitsandbytes: 8-bit and 4-bit loading on GPU and CPU, and what must not be done to the result.

Head and embedding are never quantised. An adapter is never merged into quantised weights: in nf4
the merged answer was 0.42 away from base plus adapter, in full precision 1e-6.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError, MachineError

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig

QUANTIZATIONS = ("int8", "nf4")

_BLOCK = 64  # weights that share a scale in nf4
_QUANTISED_WEIGHTS = ("Params4bit", "Int8Params")
# Said once per matrix product, and once at import about a download that is not wanted.
_CHATTER = ("inputs will be cast from", "Failed to load CPU gemm_4bit_forward")


def compute_dtype(quantization: str, dtype: str) -> str:
    """What ``dtype="auto"`` means for the parts that stay unquantised, and for activations.

    nf4 computes in bfloat16; a GPU without it can be given float16. int8 multiplies float16
    activations by design: any other dtype is cast to it and back in every layer.
    """
    if dtype != "auto":
        return dtype
    return "bfloat16" if quantization == "nf4" else "float16"


def bitsandbytes_config(
    quantization: str, dtype: torch.dtype, kept: list[str] | None = None
) -> BitsAndBytesConfig:
    """The settings that transformers quantises by while it loads.

    Args:
        dtype: What nf4 weights are multiplied in.
        kept: Names of the layers that stay as they are, from ``kept_layers``. None: the output
            embedding and what is tied to it, as transformers finds them.
    Raises:
        MachineError: bitsandbytes or accelerate is not installed.
    """
    require_bitsandbytes()
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=kept,
    )


def kept_layers(skeleton: Any, quantization: str, device: str) -> list[str]:
    """The layers that are not quantised: the head, and what nf4 gets wrong on a CPU.

    Args:
        skeleton: The model, on the meta device if you like.
        device: "cpu" or "cuda".
    """
    head = skeleton.get_output_embeddings()
    wrong = quantization == "nf4" and device == "cpu"
    return [
        name
        for name, module in skeleton.named_modules()
        if module is head or (wrong and _wrong_on_cpu(module))
    ]


def _wrong_on_cpu(module: Any) -> bool:
    """bitsandbytes 0.50.2 packs 4-bit weights in blocks of 64 across rows, but its CPU kernel reads
    the scales as if every row began a block: other widths come back wrong, in silence. The
    published models have none."""
    import torch
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, Conv1D):  # quantised as its transpose
        return bool(module.weight.shape[0] % _BLOCK)
    return isinstance(module, torch.nn.Linear) and bool(module.in_features % _BLOCK)


def require_bitsandbytes() -> None:
    """Raises:
    MachineError: A library for quantised loading is not installed.
    """
    for library in ("bitsandbytes", "accelerate"):
        if find_spec(library) is None:
            raise MachineError(
                "quantization",
                f"{library} is not installed",
                do="Install it with `pip install 'glmops[quantized]'`, or load without quantising.",
            )
    quieten()


def settle(model: Any, where: object = "quantization") -> Any:
    """Make a freshly quantised model safe to evaluate and then train, in one process.

    On a CPU with AVX512-BF16, bitsandbytes repacks nf4 weights at the first evaluation: they then
    have no gradient, and their scales are rounded once more. Here they keep their layout.

    Args:
        where: The checkpoint's folder, for the message.
    Raises:
        InputError: Nothing was quantised, or the weights came so in a way that has no use here.
    """
    head = model.get_output_embeddings()
    if head is not None and type(head.weight).__name__ in _QUANTISED_WEIGHTS:
        raise InputError(where, "its head is quantised", do="Quantise it again with this program.")
    if not is_quantised(model):
        raise InputError(
            where,
            f"no layer of it can be quantised on a CPU: their widths are no multiple of {_BLOCK}",
            do="Load it without quantization, or with int8.",
        )
    for name, module in model.named_modules():
        if not hasattr(module, "support_avx512bf16_for_cpu"):
            continue
        module.support_avx512bf16_for_cpu = False
        if model.device.type == "cpu" and _wrong_on_cpu(module):
            raise InputError(
                where,
                f"{name} is quantised to 4 bits and its width no multiple of {_BLOCK}, which a "
                "CPU computes wrongly",
                got=module.in_features,
                do="Use it on a GPU, or quantise the full-precision model again on this machine.",
            )
    return model


def is_quantised(model: Any) -> bool:
    """Whether any weight is held in 8 or 4 bits by bitsandbytes. Adapters do not matter."""
    return any(type(weight).__name__ in _QUANTISED_WEIGHTS for weight in model.parameters())


def require_full_precision(model: Any, where: object = "merge") -> None:
    """To be called before an adapter is merged or weights are exported.

    Raises:
        InputError: The model is quantised, so that merging would round the adapter away.
    """
    if is_quantised(model):
        raise InputError(
            where,
            "an adapter is merged into full precision only, and this model is quantised",
            do="Load the base again without quantization, put the adapter on it, and merge that.",
        )


def quieten() -> None:
    """Before peft or bitsandbytes is imported: each would say at once what it did not download."""

    def wanted(record: logging.LogRecord) -> bool:
        return not any(words in str(record.msg) for words in _CHATTER)

    for name in ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops"):
        logger = logging.getLogger(name)
        if not any(getattr(each, "__name__", "") == "wanted" for each in logger.filters):
            logger.addFilter(wanted)
