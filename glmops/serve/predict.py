"""Answers from a checkpoint folder: from Python, from a file of rows, and as an MLflow model.

A checkpoint carries its contract, so that its prompts are the ones it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmops.contract import Contract, load_contract
from glmops.errors import InputError, IntegrityError
from glmops.models import load
from glmops.models.generation import generate_batches
from glmops.models.tokenizers import prompt_ids
from glmops.storage import read_json

BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model that is ready to answer, its tokenizer and its contract."""

    model: Any
    tokenizer: Any
    contract: Contract

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        """What MLflow calls. ``model_input``: strings, or a pandas frame with a column ``context``.

        Args:
            params: ``max_new_tokens`` may stand in it; the default is the contract's answer length.
        """
        return answer(self, _contexts(model_input), **(params or {}))


def open_checkpoint(folder: Path | str) -> Checkpoint:
    """Load a checkpoint folder.

    Raises:
        InputError: A file of it is missing or damaged.
        IntegrityError: Its contract is not the one that it was trained under.
    """
    folder = Path(folder)
    model, tokenizer = load(folder)
    contract = load_contract(folder)
    trained_under = read_json(folder / "lineage.json")["contract"]
    if contract.hash() != trained_under:
        raise IntegrityError(
            f"{folder}/contract.json / {folder}/lineage.json",
            f"the contract is not the one that the weights were trained under ({trained_under})",
            got=contract.hash(),
            do="Restore the folder from its package, or train again.",
        )
    return Checkpoint(model, tokenizer, contract)


def answer(
    checkpoint: Checkpoint, contexts: Sequence[str], max_new_tokens: int | None = None
) -> list[str]:
    """Greedy answers in the order of ``contexts``. An over-long text loses its end, as in training.

    Raises:
        InputError: A context's instruction and question alone are too long.
    """
    contract, tokenizer = checkpoint.contract, checkpoint.tokenizer
    prompts = [
        prompt_ids(contract.prompt({"context": text}), contract, tokenizer, f"context {number}")
        for number, text in enumerate(contexts, start=1)
    ]
    written = generate_batches(
        checkpoint.model,
        tokenizer,
        prompts,
        stop=contract.stop,
        max_new_tokens=max_new_tokens or contract.max_answer_tokens,
        batch_size=BATCH_SIZE,
    )
    return [each.text for each in written]


def predict(
    model_dir: Path | str, contexts: Sequence[str], max_new_tokens: int | None = None
) -> list[str]:
    """Open a checkpoint folder and answer with it."""
    return answer(open_checkpoint(model_dir), contexts, max_new_tokens)


def predict_file(model_dir: Path | str, path: Path) -> list[dict[str, str]]:
    """Answers to a JSON Lines file, as ``{"context", "answer"}`` in the file's order.

    Raises:
        InputError: The file is missing or empty, or a line is not an object with a ``context``.
    """
    contexts = _read_contexts(path)
    answers = predict(model_dir, contexts)
    return [{"context": c, "answer": a} for c, a in zip(contexts, answers, strict=True)]


def _read_contexts(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(path, "no such file", do="Give a JSON Lines file.")
    contexts = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}", f"not JSON ({error})", do="Repair it.") from None
        if not isinstance(row, dict) or not isinstance(row.get("context"), str):
            raise InputError(
                f"{path}:{number}", "no text under `context`", got=row, do="Give each row one."
            )
        contexts.append(row["context"])
    if not contexts:
        raise InputError(path, "has no rows", do="Give at least one.")
    return contexts


def _contexts(model_input: Any) -> list[str]:
    """The texts in what a caller handed to MLflow."""
    columns = getattr(model_input, "columns", None)
    if columns is not None:
        if "context" not in columns:
            raise InputError(
                "model input",
                "no column `context`",
                got=", ".join(str(column) for column in columns),
                do="Name the column with the texts `context`.",
            )
        model_input = model_input["context"]
    texts = list(model_input)
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise InputError(f"model input row {number}", "not a text", got=text, do="Give text.")
    return texts


def _load_pyfunc(data_path: str) -> Checkpoint:
    """MLflow's entry (``loader_module="glmops.serve.predict"``): ``data_path`` is a package."""
    return open_checkpoint(Path(data_path) / "model")
