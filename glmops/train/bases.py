"""What a method is put on: a small model made here, or a checkpoint of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glmops.contract import Contract
from glmops.errors import InputError, lookup
from glmops.models import load
from glmops.models.original.opening import require_tokenizer_of_the_model
from glmops.models.small import ARCHITECTURES
from glmops.models.weights import weight_files
from glmops.recipe import PretrainedBase, ScratchBase, Train
from glmops.storage import sha256_file, sha256_json

ZEROS = "0" * 64
_PUT = (
    "Put the checkpoint there, as it was published or as `glmops import-model` wrote it, or "
    "correct train.base.path in the recipe."
)


def make_base(settings: ScratchBase, tokenizer: Any, contract: Contract, seed: int) -> Any:
    """A model with random weights in float32 on the CPU, for rows of the contract's length."""
    limit = contract.max_prompt_tokens + contract.max_answer_tokens
    make = lookup(ARCHITECTURES, settings.architecture, "train.base.architecture")
    return make(settings, tokenizer, max_tokens=limit, seed=seed)


def base_hash(folder: Path) -> str:
    """sha256 over config.json and the weight files, by name.

    Raises:
        InputError: No folder there, or no weights or config in it.
    """
    if not folder.is_dir():
        raise InputError(folder, "no such folder", do=_PUT)
    files = weight_files(folder)
    if not files:
        raise InputError(folder, "no weights in it", do=_PUT)
    if not (folder / "config.json").is_file():
        raise InputError(folder, "no config.json in it", do="Copy the whole checkpoint.")
    hashes = {file.name: sha256_file(file) for file in (folder / "config.json", *files)}
    return sha256_json(hashes)


def require_pinned(settings: PretrainedBase, root: Path) -> Path:
    """The folder of a pretrained base, if it holds what the recipe pins.

    Raises:
        InputError: It is missing, or its weights are others.
    """
    folder = root / settings.path
    found = base_hash(folder)
    if found != settings.sha256:
        raise InputError(
            "train.base.sha256",
            f"names other weights than those in {settings.path}, whose hash is {found}",
            got="64 zeros" if settings.sha256 == ZEROS else settings.sha256,
            do="Copy that hash into the recipe if these are the weights you mean.",
        )
    return folder


def open_base(folder: Path, settings: Train, device: str = "auto") -> Any:
    """The base in the precision that its method trains on.

    Weights that are trained themselves are float32; frozen ones under an adapter are held in the
    recipe's precision, or quantised.
    """
    frozen = settings.method in ("lora", "prefix")
    quantization = None if settings.quantization == "none" else settings.quantization
    dtype = settings.precision if frozen else "float32"
    # int8 multiplies in float16 whatever it is told; what is around it is as exact as asked for.
    model, _ = load(folder, quantization=quantization, dtype=dtype, device=device)
    return model


def require_fit(model: Any, tokenizer: Any, contract: Contract) -> None:
    """Refuse a base that cannot read every row that the tokenizer and the contract allow.

    A model may have more embeddings than there are tokens: published ones are padded.

    Raises:
        InputError: There are tokens without an embedding, or rows longer than its positions, or
            its special tokens have other ids.
    """
    size, tokens = model.config.vocab_size, len(tokenizer)
    if tokens > size:
        raise InputError(
            "encode.tokenizer",
            f"the base has {size} embeddings, too few for the tokenizer's tokens",
            got=tokens,
            do="Name the tokenizer that belongs to the base.",
        )
    positions = getattr(model.config, "n_positions", None)  # rotary models have no such table
    longest = contract.max_prompt_tokens + contract.max_answer_tokens
    if positions and longest > positions:
        raise InputError(
            "encode.max_prompt_tokens + max_answer_tokens",
            f"the base has {positions} positions, too few for the longest row",
            got=longest,
            do=f"Lower them to {positions} together.",
        )
    require_tokenizer_of_the_model("encode.tokenizer", model.config.to_dict(), tokenizer)
