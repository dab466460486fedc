"""The folder that the train stage writes, opened: merged weights, or an adapter beside its base.

lineage.json says which. A base that was made in the run lies in the folder; a checkpoint of the
user's stays where it is, and must be the one that the adapter was trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glmops.errors import InputError
from glmops.models.loading import load
from glmops.models.tokenizers import load_tokenizer
from glmops.storage import project_root, read_json

ADAPTER, BASE, LINEAGE = "adapter", "base", "lineage.json"


def open_trained(folder: Path, *, device: str = "auto") -> tuple[Any, Any]:
    """The model, ready to answer, and the tokenizer of its rows.

    A relative path of the base starts at the project that holds ``folder``, or else at the one that
    holds the current folder.

    Raises:
        InputError: A file is missing or damaged, or the base is not the one it was trained on.
    """
    if not (folder / ADAPTER).is_dir():
        return load(folder, device=device)
    lineage = read_json(folder / LINEAGE)
    quantization = lineage.get("quantization", "none")
    model, _ = load(
        base_of(folder, lineage),
        quantization=None if quantization == "none" else quantization,
        dtype=lineage.get("precision", "auto"),
        device=device,
        adapter=folder / ADAPTER,
    )
    return model, load_tokenizer(folder)


def base_of(folder: Path, lineage: dict[str, Any]) -> Path:
    """Where the base of an adapter lies.

    Raises:
        InputError: It is not there.
    """
    if (folder / BASE).is_dir():
        return folder / BASE
    path = Path(lineage["base"]["path"])
    for start in (folder, None):
        try:
            base = project_root(start) / path
        except InputError:
            continue
        if base.is_dir():
            return base
    raise InputError(
        folder,
        "its base is not in a project here",
        got=path,
        do="Put the base there, or use the folder inside the project that it was trained in.",
    )
