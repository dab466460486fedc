"""Which base an adapter was made for, told apart without reading gigabytes.

Two numbers identify a checkpoint folder. ``source``: the hashes of the original weight files, which
`glmops import-model` writes down, so that imports of one checkpoint into two dtypes are one base.
``fingerprint``: name, shape, dtype and first bytes of every tensor, from the safetensors headers;
any training or merging that touched a tensor changes them. Neither hashes the weights again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from glmops.errors import InputError
from glmops.storage import read_json, sha256_json

MANIFEST = "import.json"
RECORD = "base.json"  # beside a LoRA: the identity of its base
SAMPLE_BYTES = 256  # of each tensor
KINDS = ("source", "fingerprint")


def identity_of_folder(folder: Path) -> dict[str, str] | None:
    """``source`` and ``fingerprint`` of a native folder, as far as it has them, or None.

    A folder in the original format has none without being hashed whole: its names are others.

    Raises:
        InputError: A safetensors file in it is cut short.
    """
    found: dict[str, str] = {}
    if (folder / MANIFEST).is_file():
        manifest = read_json(folder / MANIFEST)
        try:
            hashes = {name: each["sha256"] for name, each in manifest["source"].items()}
        except (KeyError, TypeError, AttributeError):
            raise InputError(
                folder / MANIFEST, "not a manifest of an import", do="Import the model again."
            ) from None
        found |= source_identity(hashes)
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    original = isinstance(config, dict) and config.get("model_type") == "chatglm"
    if not original and (weights := sorted(folder.glob("*.safetensors"))):
        samples = [sample for file in weights for sample in _samples(file)]
        found["fingerprint"] = sha256_json(sorted(samples))
    return found or None


def source_identity(hashes: Mapping[str, str]) -> dict[str, str]:
    """From the file names and sha256 of an original checkpoint; only its weights count."""
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):  # of both, the first are read
        if weights := sorted(each for name, each in hashes.items() if fnmatch(name, pattern)):
            return {"source": sha256_json(weights)}
    return {}


def identity_of_model(model: Any) -> dict[str, str] | None:
    """That of the folder the model was loaded from; None for a model made in memory."""
    folder = Path(getattr(model, "name_or_path", "") or "")
    if not (folder / "config.json").is_file():
        return None
    return identity_of_folder(folder)


def require_base(
    mine: Mapping[str, str] | None, recorded: Mapping[str, str] | None, where: object
) -> None:
    """Refuse an adapter whose ``recorded`` base is not the one at hand.

    What one of the two sides does not know cannot be compared, and passes.
    """
    for kind in KINDS:
        one, other = (mine or {}).get(kind), (recorded or {}).get(kind)
        if one is None or other is None:
            continue
        if one == other:
            return
        raise InputError(
            where,
            f"was made for another base ({kind} {one} is at hand)",
            got=other,
            do="Load the base it was trained on, or import the adapter for this one.",
        )


def _samples(file: Path) -> list[list[Any]]:
    """[name, dtype, shape, hash of the first bytes] of every tensor in a safetensors file."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(header_bytes) if header_bytes < size else b"")
            tensors = {name: each for name, each in header.items() if name != "__metadata__"}
            start = 8 + header_bytes
            if (
                max((each["data_offsets"][1] for each in tensors.values()), default=0)
                > size - start
            ):
                raise ValueError("data missing at the end")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                file, f"not a whole safetensors file ({error})", do="Copy or train it again."
            ) from None
        samples = []
        for name, each in tensors.items():
            first, last = each["data_offsets"]
            stream.seek(start + first)
            bytes_ = stream.read(min(SAMPLE_BYTES, last - first))
            digest = hashlib.sha256(bytes_).hexdigest()
            samples.append([name, each["dtype"], each["shape"], digest])
    return samples
