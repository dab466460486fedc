"""Answers from a checkpoint folder: from Python, from a file of rows, and as an MLflow model.

A checkpoint carries its contract, so that its prompts are the ones it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmops.contract import Contract, load_contract
from glmops.errors import InputError, IntegrityError
from glmops.models.generation import generate_batches
from glmops.models.tokenizers import prompt_ids
from glmops.models.trained import open_trained
from glmops.storage import read_json
from glmops.templates import TEMPLATES, Prompt

BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model that is ready to answer, its tokenizer and its contract."""

    model: Any
    tokenizer: Any
    contract: Contract

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        """What MLflow calls. ``model_input``: texts, or a pandas frame with the prompt's fields.

        Args:
            params: ``max_new_tokens`` may stand in it; the default is the contract's answer length.
        """
        return answer(self, _rows(model_input), **(params or {}))


def open_checkpoint(folder: Path | str) -> Checkpoint:
    """Load a checkpoint folder.

    Raises:
        InputError: A file of it is missing or damaged.
        IntegrityError: Its contract is not the one that it was trained under.
    """
    folder = Path(folder)
    model, tokenizer = open_trained(folder)
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
    checkpoint: Checkpoint,
    rows: Sequence[str | Mapping[str, object]],
    max_new_tokens: int | None = None,
) -> list[str]:
    """Greedy answers in the order of ``rows``. An over-long text loses its end, as in training.

    Args:
        rows: The fields of the model's prompt template; a text is the only field of a template
            that has one. A field ``template`` says which, where the model knows several.
    Raises:
        InputError: A field is missing, or what may not be cut of a prompt is too long alone.
    """
    contract, tokenizer = checkpoint.contract, checkpoint.tokenizer
    prompts = [
        prompt_ids(_prompt(row, contract, number), contract, tokenizer, f"row {number}")
        for number, row in enumerate(rows, start=1)
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
    model_dir: Path | str,
    rows: Sequence[str | Mapping[str, object]],
    max_new_tokens: int | None = None,
) -> list[str]:
    """Open a checkpoint folder and answer with it."""
    return answer(open_checkpoint(model_dir), rows, max_new_tokens)


def predict_file(model_dir: Path | str, path: Path) -> list[dict[str, object]]:
    """Answers to a JSON Lines file: each row as it was, with its ``answer``, in the file's order.

    Raises:
        InputError: The file is missing or empty, or a line is not an object with the fields that
            the model's prompt needs.
    """
    rows = _read_rows(path)
    answers = predict(model_dir, rows)
    return [{**row, "answer": a} for row, a in zip(rows, answers, strict=True)]


def _prompt(row: str | Mapping[str, object], contract: Contract, number: int) -> Prompt:
    fields = dict.fromkeys(_only_field(contract), row) if isinstance(row, str) else row
    template = fields.get("template")
    if template is not None and not isinstance(template, str):
        raise InputError(f"row {number} template", "not a name", got=template, do="Name one.")
    try:
        return contract.prompt(fields, template)
    except InputError as error:
        raise InputError(
            f"row {number} {error.where}", error.what, got=error.got, do=error.do
        ) from None


def _only_field(contract: Contract) -> tuple[str, ...]:
    """The one field that a bare text can be; the first of several, so that the rest is named."""
    return TEMPLATES[next(iter(contract.templates))].fields[:1]


def _read_rows(path: Path) -> list[dict[str, object]]:
    if not path.is_file():
        raise InputError(path, "no such file", do="Give a JSON Lines file.")
    rows = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}", f"not JSON ({error})", do="Repair it.") from None
        if not isinstance(row, dict):
            raise InputError(
                f"{path}:{number}", "not a JSON object", got=row, do="Give the prompt's fields."
            )
        rows.append(row)
    if not rows:
        raise InputError(path, "has no rows", do="Give at least one.")
    return rows


def _rows(model_input: Any) -> list[str | Mapping[str, object]]:
    """The rows in what a caller handed to MLflow."""
    if hasattr(model_input, "to_dict") and hasattr(model_input, "columns"):
        return list(model_input.to_dict("records"))
    rows = list(model_input)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, str | Mapping):
            raise InputError(f"row {number}", "not a text or an object", got=row, do="Give one.")
    return rows


def _load_pyfunc(data_path: str) -> Checkpoint:
    """MLflow's entry (``loader_module="glmops.serve.predict"``): ``data_path`` is a package."""
    return open_checkpoint(Path(data_path) / "model")
