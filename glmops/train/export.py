"""A trained model → a checkpoint folder that ``glmops.models.trained`` opens."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glmops.contract import Contract
from glmops.models.adapters import LORA_CONFIG, LORA_WEIGHTS
from glmops.models.identity import RECORD, identity_of_folder
from glmops.models.loading import quiet_transformers
from glmops.models.prefix import save_prefix
from glmops.models.trained import ADAPTER, BASE, LINEAGE
from glmops.storage import fresh_folder, write_json


def save_weights(folder: Path, model: Any) -> None:
    """Weights as safetensors, and config."""
    with quiet_transformers():
        model.save_pretrained(str(folder))


def save_adapter(folder: Path, model: Any, base: Path) -> None:
    """What was trained on top of ``base``, and which base that is: a LoRA or a prefix.

    Raises:
        InputError: The model has neither.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not hasattr(model, "peft_config"):
        save_prefix(model, folder)
        return
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        folder / LORA_WEIGHTS,
        metadata={"format": "pt"},
    )
    # peft would write where the base lies on this machine (which base it is says base.json), and
    # the names of the targets in another order in each process.
    told = model.peft_config["default"].to_dict()
    told |= {"base_model_name_or_path": None, "inference_mode": True}
    ordered = {key: sorted(each) if isinstance(each, set) else each for key, each in told.items()}
    write_json(folder / LORA_CONFIG, ordered)
    if identity := identity_of_folder(base):
        write_json(folder / RECORD, identity)


@contextmanager
def checkpoint(
    folder: Path, tokenizer: Any, contract: Contract, lineage: dict[str, Any]
) -> Iterator[Path]:
    """A folder to put a model into, with tokenizer, contract.json and lineage.json: all or nothing.

    Nothing in the folder tells the time, the machine or the run: equal models give equal bytes.
    """
    with fresh_folder(folder) as draft:
        yield draft
        tokenizer.save_pretrained(str(draft))
        contract.save(draft)
        write_json(draft / LINEAGE, lineage)
        for file in draft.rglob("*"):  # safetensors writes for the owner's eyes only
            file.chmod(0o755 if file.is_dir() else 0o644)


def save_checkpoint(
    folder: Path, model: Any, tokenizer: Any, contract: Contract, lineage: dict[str, Any]
) -> None:
    """Full weights under their tokenizer and contract."""
    with checkpoint(folder, tokenizer, contract, lineage) as draft:
        save_weights(draft, model)


def save_beside_base(
    folder: Path,
    model: Any,
    base: Path,
    tokenizer: Any,
    contract: Contract,
    lineage: dict[str, Any],
    *,
    own_base: bool,
) -> None:
    """An adapter under tokenizer and contract; with ``own_base`` its base goes into the folder."""
    with checkpoint(folder, tokenizer, contract, lineage) as draft:
        save_adapter(draft / ADAPTER, model, base)
        if own_base:
            shutil.copytree(base, draft / BASE)


def weights_hash(model: Any) -> str:
    """sha256 over the weights: names, shapes and values. Tied weights count once."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
