"""A checkpoint answers records, greedily and in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from glmops.contract import load_contract
from glmops.errors import InputError
from glmops.records import Answer, Record
from glmops.templates import prompt_of


def answer(
    checkpoint: Path,
    records: Sequence[Record],
    *,
    batch_size: int,
    max_new_tokens: int,
    threads: int | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> list[Answer]:
    """What the model in ``checkpoint`` writes for each record, in the order of ``records``.

    The checkpoint's own contract.json says how a prompt becomes tokens and where an answer stops.

    Args:
        batch_size: Rows that are answered together; it does not change the answers.
        max_new_tokens: Tokens of one answer, its stop token included. An answer that does not stop
            by then is cut there and marked as not finished.
        threads: CPU threads of torch; its own choice when None.
        on_rows: Called with the number of rows just answered.
    Raises:
        InputError: No records, or the checkpoint or its contract cannot be used.
    """
    if not records:
        raise InputError(checkpoint, "there are no records to answer", do="Enlarge the test split.")
    contract = load_contract(checkpoint)

    import torch

    from glmops.models.generation import generate_batches
    from glmops.models.tokenizers import prompt_ids
    from glmops.models.trained import open_trained

    if threads is not None:
        torch.set_num_threads(threads)
    model, tokenizer = open_trained(checkpoint)
    prompts = [
        prompt_ids(
            prompt_of(record),
            contract,
            tokenizer,
            f"{record.file}:{record.line}",
        )
        for record in records
    ]
    written = generate_batches(
        model,
        tokenizer,
        prompts,
        stop=contract.stop,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        on_batch=on_rows,
    )
    return [
        Answer(record.id, record.task, record.prompt, record.target, said.text, said.finished)
        for record, said in zip(records, written, strict=True)
    ]
