"""A prefix as a native folder: prefix_config.json beside prefix_model.safetensors.

The configuration says for which family, sizes, length and projection the tensors are, and from
which base; all of it is compared with the model before anything on the model changes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import save_file

from glmops.errors import InputError
from glmops.models.identity import identity_of_model, require_base
from glmops.models.prefix.attaching import attach_prefix, encoder_of
from glmops.models.prefix.encoder import PrefixEncoder, PrefixShape, shape_of
from glmops.models.weights import open_tensors
from glmops.storage import read_json, write_json

CONFIG, WEIGHTS = "prefix_config.json", "prefix_model.safetensors"


class PrefixConfig(BaseModel):
    """What lies beside the tensors. ``base``: see glmops/models/identity.py."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: str
    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    length: int = Field(gt=0)
    projection: bool
    dropout: float = Field(ge=0, lt=1)
    dtype: Literal["float32"] = "float32"
    base: dict[str, str] | None = None

    @property
    def shape(self) -> PrefixShape:
        return PrefixShape(self.model_type, self.layers, self.kv_heads, self.head_dim, self.hidden)


def save_prefix(model: Any, folder: Path | str) -> Path:
    """The prefix of ``model`` as the two native files in ``folder``; other files there stay.

    Raises:
        InputError: The model has no prefix.
    """
    encoder = encoder_of(model)
    if encoder is None:
        raise InputError(
            f"a {type(model).__name__}", "it has no prefix to save", do="Use attach_prefix first."
        )
    config = config_of(
        encoder.shape,
        length=encoder.length,
        projection=encoder.projection,
        dropout=encoder.dropout.p,
        base=identity_of_model(model),
    )
    write_prefix(config, encoder.state_dict(), Path(folder))
    return Path(folder)


def load_prefix(model: Any, folder: Path | str) -> Any:
    """``model`` with the prefix stored in ``folder``; one it has already takes the new values.

    Raises:
        InputError: A file is missing or cut short, or does not fit the model. Nothing is
            changed then.
    """
    config, tensors = read_prefix(Path(folder))
    require_base(identity_of_model(model), config.base, folder)
    return put_prefix(model, config, tensors, folder)


def config_of(shape: PrefixShape, **rest: Any) -> PrefixConfig:
    names = PrefixShape.__slots__
    return PrefixConfig(**{name: getattr(shape, name) for name in names}, **rest)


def write_prefix(config: PrefixConfig, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Both files. A kill leaves the old pair, or no configuration and so no prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{WEIGHTS}.{os.getpid()}"
    plain = {name: each.detach().float().cpu().contiguous() for name, each in tensors.items()}
    try:
        save_file(plain, draft, metadata={"format": "pt"})
        (folder / CONFIG).unlink(missing_ok=True)
        draft.replace(folder / WEIGHTS)
    finally:
        draft.unlink(missing_ok=True)
    write_json(folder / CONFIG, config.model_dump(mode="json"))


def read_prefix(folder: Path) -> tuple[PrefixConfig, dict[str, torch.Tensor]]:
    """What ``folder`` holds, each checked against the other.

    Raises:
        InputError: A file is missing, cut short, or does not fit the other.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(folder, f"no {name} in it", do="Give the folder of a saved prefix.")
    try:
        config = PrefixConfig.model_validate(read_json(folder / CONFIG), strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise InputError(
            f"{folder / CONFIG} {'.'.join(map(str, fault['loc']))}",
            f"not the configuration of a prefix ({fault['msg']})",
            do="Save or import the prefix again.",
        ) from None
    tensors = open_tensors(folder / WEIGHTS)
    require_tensors(config, tensors, folder / WEIGHTS)
    return config, tensors


def put_prefix(
    model: Any, config: PrefixConfig, tensors: Mapping[str, torch.Tensor], where: object
) -> Any:
    """``model`` with these values as its prefix. ``where`` names their folder in complaints.

    Args:
        tensors: Checked by ``require_tensors``.
    """
    require_shape(config, model.config, where)
    encoder = encoder_of(model)
    if encoder is None:
        attach_prefix(
            model, length=config.length, projection=config.projection, dropout=config.dropout
        )
        encoder = encoder_of(model)
    else:
        _require_equal(where, "the prefix on the model", config, encoder, ("length", "projection"))
    assert encoder is not None
    encoder.load_state_dict({name: each.float() for name, each in tensors.items()})
    return model


def require_shape(config: PrefixConfig, base: Any, where: object) -> None:
    """Refuse a prefix for another model than the one that the configuration ``base`` describes."""
    _require_equal(where, "the base", config.shape, shape_of(base), PrefixShape.__slots__)


def require_tensors(
    config: PrefixConfig, tensors: Mapping[str, torch.Tensor], where: object
) -> None:
    """Refuse tensors whose names, shapes or values are not those of a prefix of ``config``."""
    with torch.device("meta"):
        blank = PrefixEncoder(config.shape, config.length, config.projection, config.dropout)
    expected = {name: list(each.shape) for name, each in blank.state_dict().items()}
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected:
            fault = "a tensor is missing" if name in expected else "a tensor does not belong here"
            raise InputError(where, fault, got=name, do="Copy or import the prefix again.")
        if list(tensors[name].shape) != expected[name]:
            raise InputError(
                where,
                f"{name} is not of shape {expected[name]}",
                got=list(tensors[name].shape),
                do="Use the base, length and projection that it was trained with.",
            )
        if not tensors[name].is_floating_point() or not tensors[name].isfinite().all():
            raise InputError(where, f"{name} holds no usable numbers", do="Train it again.")


def _require_equal(
    where: object, other: str, stored: Any, mine: Any, names: tuple[str, ...]
) -> None:
    for name in names:
        if getattr(stored, name) != getattr(mine, name):
            raise InputError(
                where,
                f"a prefix with {name} {getattr(stored, name)!r} does not fit {other}",
                got=getattr(mine, name),
                do="Load the base it was trained on.",
            )
