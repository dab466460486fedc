"""LoRA folders as peft writes them, of any age: read into numbers, and written.

A: [r, in], B: [out, r]; the module's weight gains ``scale`` · B A.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError
from glmops.models.weights import open_tensors
from glmops.storage import read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")  # read in this order

# `default` is the adapter's name, which only peft's own files leave out.
_NAME = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.(?P<adapter>\w+))?\.weight"
)
# The tensors say which modules are adapted, and the rest of these change no number.
_WITHOUT_MEANING = {
    "base_model_name_or_path",
    "revision",
    "task_type",
    "inference_mode",
    "auto_mapping",
    "peft_version",
    "merge_weights",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "runtime_config",
    "megatron_core",
    "qalora_group_size",
}
# Starts under which the base's own weights were changed, so that the adapter alone is not enough.
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class Part:
    """The adapter of one module."""

    a_RI: Tensor
    b_OR: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return int(self.a_RI.shape[0])

    def scale(self, rslora: bool) -> float:
        return float(self.alpha / (self.rank**0.5 if rslora else self.rank))


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter by full module name, without peft's own lead."""

    parts: dict[str, Part]
    dropout: float
    rslora: bool


def read_lora(folder: Path) -> Lora:
    """The adapter in ``folder``.

    Raises:
        InputError: A file is absent, broken or holds code, or the adapter has more than A and B
            matrices (trained biases, whole modules, another method). The message names it.
    """
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.get("peft_type", "LORA") != "LORA":
        raise InputError(folder / CONFIG, "not the configuration of a LoRA", do="Give a LoRA.")
    _refuse_more_than_lora(config, folder / CONFIG)
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise InputError(folder, f"neither {' nor '.join(WEIGHTS)} in it", do="Copy it again.")
    return Lora(
        parts=_parts(_sides(open_tensors(file), file), config, file),
        dropout=float(config.get("lora_dropout") or 0.0),
        rslora=bool(config.get("use_rslora")),
    )


def write_lora(lora: Lora, folder: Path, *, layers: int, pickled: bool = False) -> None:
    """The two files peft reads.

    Args:
        layers: Of the base: modules adapted in all of them are listed by the end of their name.
        pickled: Write the weights as the peft releases of the remote code's time did.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for module, part in lora.parts.items():
        for side, each in (("A", part.a_RI), ("B", part.b_OR)):
            tensors[f"base_model.model.{module}.lora_{side}.weight"] = each.clone().contiguous()
    if pickled:
        torch.save(tensors, folder / WEIGHTS[1])
    else:
        save_file(tensors, folder / WEIGHTS[0], metadata={"format": "pt"})
    ranks = {module: part.rank for module, part in lora.parts.items()}
    alphas = {module: _plain(part.alpha) for module, part in lora.parts.items()}
    rank, rank_pattern = _pattern(ranks)
    alpha, alpha_pattern = _pattern(alphas)
    write_json(
        folder / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": None,
            "inference_mode": True,
            "r": rank,
            "lora_alpha": alpha,
            "lora_dropout": lora.dropout,
            "use_rslora": lora.rslora,
            "rank_pattern": rank_pattern,
            "alpha_pattern": alpha_pattern,
            "target_modules": _targets(lora.parts, layers),
            "bias": "none",
            "fan_in_fan_out": False,
            "modules_to_save": None,
            "init_lora_weights": True,
        },
    )


def _refuse_more_than_lora(config: Mapping[str, Any], where: Path) -> None:
    understood = {"peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora"}
    understood |= {"rank_pattern", "alpha_pattern", "bias", "init_lora_weights"}
    for key, value in config.items():
        if key in understood or key in _WITHOUT_MEANING or not value:
            continue
        raise InputError(
            where, f"{key} is more than a LoRA of A and B matrices", got=value, do="Leave it out."
        )
    if config.get("bias") not in (None, "none"):
        raise InputError(
            where, "bias: trained biases cannot be imported", got=config["bias"], do="Use none."
        )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_CHANGED_BASE):
        raise InputError(
            where,
            "init_lora_weights: it changed the base's own weights, which are not here",
            got=start,
            do="Let peft save it as a plain LoRA (path_initial_model_for_weight_conversion).",
        )


def _sides(tensors: Mapping[str, Tensor], file: Path) -> dict[str, dict[str, Tensor]]:
    """Module → side ("A" or "B") → matrix."""
    modules: dict[str, dict[str, Tensor]] = {}
    adapters = set()
    for name, tensor in tensors.items():
        found = _NAME.fullmatch(name)
        if found is None:
            raise InputError(
                file, "a tensor is no LoRA matrix", got=name, do="Train with LoRA matrices alone."
            )
        adapters.add(found["adapter"])
        modules.setdefault(found["module"], {})[found["side"]] = tensor
    if len(adapters) != 1:
        raise InputError(
            file,
            "no adapter in it, or several",
            got=sorted(str(name) for name in adapters),
            do="Save one adapter alone.",
        )
    return modules


def _parts(
    modules: Mapping[str, Mapping[str, Tensor]], config: Mapping[str, Any], file: Path
) -> dict[str, Part]:
    parts = {}
    for module in sorted(modules):
        a_RI, b_OR = modules[module].get("A"), modules[module].get("B")
        if a_RI is None or b_OR is None:
            raise InputError(file, "half of a pair is missing", got=module, do="Copy it again.")
        rank = _setting(config, "rank_pattern", "r", module, file.parent / CONFIG)
        if a_RI.dim() != 2 or b_OR.dim() != 2 or {a_RI.shape[0], b_OR.shape[1]} != {rank}:
            raise InputError(
                file,
                f"{module} is not of rank {rank}, as {CONFIG} has it",
                got=f"A {list(a_RI.shape)}, B {list(b_OR.shape)}",
                do="Copy the adapter again, with its own configuration.",
            )
        if not (a_RI.isfinite().all() and b_OR.isfinite().all()):
            raise InputError(file, "holds numbers that are not finite", got=module, do="Retrain.")
        alpha = _setting(config, "alpha_pattern", "lora_alpha", module, file.parent / CONFIG)
        parts[module] = Part(a_RI, b_OR, alpha)
    return parts


def _setting(
    config: Mapping[str, Any], pattern: str, default: str, module: str, where: Path
) -> float:
    """A module's own value, found as peft finds it: a pattern matches the end of the name."""
    value = config.get(default)
    for ending, own in (config.get(pattern) or {}).items():
        if re.match(rf"(.*\.)?({ending})$", module):
            value = own
            break
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise InputError(where, f"{default} must be a number above 0", got=value, do="Copy again.")
    return value


def _pattern(values: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """The commonest value, and the others by module name as a regular expression."""
    [(common, _)] = Counter(values.values()).most_common(1)
    others = {name: value for name, value in values.items() if value != common}
    return common, {re.escape(name): value for name, value in sorted(others.items())}


def _targets(modules: Iterable[str], layers: int) -> list[str]:
    names = sorted(modules)
    endings = Counter(name.rpartition(".")[2] for name in names)
    return sorted(endings) if set(endings.values()) == {layers} else names


def _plain(number: float) -> float:
    return int(number) if float(number).is_integer() else float(number)
