"""The model of a recipe without values: its sizes and its code, and no memory."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from glmops.contract import LAYOUTS
from glmops.errors import RecipeError
from glmops.models.chatglm import register
from glmops.models.original.recognise import recognise
from glmops.models.original.settings import native_config
from glmops.models.quantization import kept_layers
from glmops.models.small import ARCHITECTURES
from glmops.recipe import Encode, Recipe, ScratchBase, Train
from glmops.train.methods import METHODS

BYTES = {"int8": 1.0, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256)}
"""Of a quantised weight: nf4 has a scale of one byte for each 64, and one of four for 256 such."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A transformers configuration, the class it belongs to, and where it is from."""

    config: Any
    model_class: Any
    source: str

    @property
    def layers(self) -> int:
        return int(self.config.num_hidden_layers)


class _Vocabulary:
    """As much of a tokenizer as a configuration asks for."""

    pad_token_id = eos_token_id = 0

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def get_added_vocab(self) -> dict[str, int]:
        names = {"[MASK]", "[gMASK]", "<sop>", "<eop>"}
        for layout in LAYOUTS.values():
            names |= {*layout.before, *layout.between, layout.end}
        return {name: number for number, name in enumerate(sorted(names))}


def architecture_of(recipe: Recipe, root: Path, tokenizer: Any = None) -> Architecture:
    """What the recipe trains, before a method is put on it.

    Args:
        tokenizer: Of the encoded rows; None: as large as the recipe says.
    Raises:
        InputError: The base's config.json cannot be used.
        RecipeError: The base is absent and its family has no published sizes.
    """
    base = recipe.train.base
    if isinstance(base, ScratchBase):
        return _made(base, recipe.encode, tokenizer)
    folder = root / base.path
    if (folder / "config.json").is_file():
        return _opened(folder, base.path)
    return published(recipe.encode.family, base.path)


def _made(base: ScratchBase, encode: Encode, tokenizer: Any) -> Architecture:
    size = encode.tokenizer.vocab_size or 130_528
    limit = encode.max_prompt_tokens + encode.max_answer_tokens
    known = tokenizer if tokenizer is not None else _Vocabulary(size)
    with torch.device("meta"):
        model = ARCHITECTURES[base.architecture](base, known, max_tokens=limit, seed=0)
    return Architecture(model.config, type(model), "the recipe")


def _opened(folder: Path, path: str) -> Architecture:
    from transformers import AutoConfig

    register()
    if original := recognise(folder):
        config = native_config(original, "float16")
    else:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    return _with_class(config, f"{path}/config.json")


def published(family: str, path: str) -> Architecture:
    """The sizes of the family's published checkpoint.

    Source: its own config.json, as it was published.
    """
    from transformers import GlmConfig

    from glmops.models.chatglm.configuration import ChatGLMConfig

    register()
    sizes = {
        "hidden_size": 4096,
        "intermediate_size": 13696,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "attention_bias": True,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "eos_token_id": 2,
    }
    if family == "chatglm":
        return _with_class(ChatGLMConfig(), "ChatGLM-6B as published")
    if family in ("chatglm2", "chatglm3"):
        config = GlmConfig(**sizes, vocab_size=65024, num_hidden_layers=28)
        return _with_class(config, f"ChatGLM{family[-1]}-6B as published")
    if family == "glm":
        config = GlmConfig(**sizes, vocab_size=151552, num_hidden_layers=40)
        return _with_class(config, "GLM-4-9B as published")
    raise RecipeError(
        "train.base.path",
        f"there is no checkpoint there, and no published one whose sizes family {family} means",
        got=path,
        do="Put the checkpoint there.",
    )


def _with_class(config: Any, source: str) -> Architecture:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        small = copy.deepcopy(config)
        small.num_hidden_layers = 1
        return Architecture(config, type(AutoModelForCausalLM.from_config(small)), source)


def num_parameters(architecture: Architecture) -> int:
    """Exactly; a tied weight counts once."""
    with torch.device("meta"):
        model = architecture.model_class._from_config(architecture.config)
    return sum(each.numel() for each in model.parameters())


def skeleton(
    architecture: Architecture, settings: Train, *, layers: int, device: str
) -> tuple[Any, int]:
    """The model with its method on it, on torch's meta device, and the bytes of its weights.

    Args:
        layers: So many of them: what a layer adds is the same for each.
        device: "cpu" or "cuda": what is quantised differs.
    """
    config = copy.deepcopy(architecture.config)
    config.num_hidden_layers = layers
    half = getattr(torch, settings.precision)
    frozen = settings.method in ("lora", "prefix")
    whole = settings.launch.engine == "deepspeed" or frozen
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = architecture.model_class._from_config(
            config, dtype=half if whole else torch.float32
        )
        packed = _quantised(model, settings.quantization, device)
        model = METHODS[settings.method](model, settings)
    if settings.launch.engine == "deepspeed":
        model = model.to(half)
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False}
        )
    size = sum(each.nbytes for each in [*model.parameters(), *model.buffers()])
    for module in packed:
        size += round(module.weight.numel() * BYTES[settings.quantization]) - module.weight.nbytes
    return model.train(), size


def _quantised(model: Any, quantization: str, device: str) -> list[Any]:
    """The layers that are, told to behave like it; their weights stay what they are here."""
    if quantization == "none":
        return []
    from transformers.pytorch_utils import Conv1D

    kept = kept_layers(model, quantization, device)
    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and name not in kept
    ]
    for module in found:
        module.forward = _Unpacking(module)  # type: ignore[method-assign]
    return found


class _Unpacking:
    """A forward of bitsandbytes: weights become numbers for as long as one product takes."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        weight = self._module.weight
        if not isinstance(self._module, torch.nn.Linear):
            weight = weight.t()
        product: Any = _Product.apply
        made: torch.Tensor = product(states.to(weight.dtype), weight.detach())
        return made if self._module.bias is None else made + self._module.bias


class _Product(torch.autograd.Function):
    """Keeps nothing of its input: the weights are not trained."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return states @ torch.empty_like(weight).t()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weight,) = ctx.saved_tensors
        return gradient.to(weight.dtype) @ torch.empty_like(weight), None
