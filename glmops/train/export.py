"""A trained model → a checkpoint folder that ``glmops.models.load`` opens."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from glmops.contract import Contract
from glmops.models.loading import quiet_transformers
from glmops.storage import fresh_folder, write_json


def save_checkpoint(
    folder: Path, model: Any, tokenizer: Any, contract: Contract, lineage: dict[str, Any]
) -> None:
    """Weights as safetensors, config, tokenizer, contract.json and lineage.json: all or nothing.

    Nothing in the folder tells the time, the machine or the run: equal models give equal bytes.
    """
    with fresh_folder(folder) as draft:
        with quiet_transformers():
            model.save_pretrained(str(draft))
        tokenizer.save_pretrained(str(draft))
        contract.save(draft)
        write_json(draft / "lineage.json", lineage)
        for file in draft.iterdir():  # safetensors writes for the owner's eyes only
            file.chmod(0o644)


def weights_hash(model: Any) -> str:
    """sha256 over the weights: names, shapes and values. Tied weights count once."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
