"""A checkpoint answers records, greedily and in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from glmops.errors import InputError
from glmops.evaluate.engines import Checkpoint, open_checkpoint
from glmops.evaluate.journal import Journal
from glmops.records import TASKS, Answer, Record
from glmops.storage import sha256_file, sha256_json, sha256_tree
from glmops.templates import prompt_of


def answer(
    checkpoint: Path,
    records: Sequence[Record],
    *,
    batch_size: int,
    max_new_tokens: int,
    threads: int | None = None,
    engine: str = "transformers",
    work: Path | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> list[Answer]:
    """What the model in ``checkpoint`` writes for each record: `answer_with`, and opening it.

    Args:
        threads: CPU threads of torch; its own choice when None.
    Raises:
        InputError: No records, or the checkpoint or its contract cannot be used.
    """
    require_records(checkpoint, records)
    return answer_with(
        open_checkpoint(checkpoint, engine=engine, threads=threads),
        records,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        work=work,
        on_rows=on_rows,
    )


def answer_with(
    checkpoint: Checkpoint,
    records: Sequence[Record],
    *,
    batch_size: int,
    max_new_tokens: int,
    work: Path | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> list[Answer]:
    """What an opened model writes for each record, in the order of ``records``.

    The checkpoint's own contract.json says how a prompt becomes tokens and where an answer stops.

    Args:
        batch_size: Long rows that are answered together (of short ones more); it does not change
            the answers.
        max_new_tokens: Tokens of one answer, its stop token included. An answer that does not stop
            by then is cut there and marked as not finished.
        work: A folder in which finished rows are kept. A second call with equal inputs goes on from
            them, and gives what an undisturbed one gives: batches are the same, and one that was
            not finished is written again as a whole.
        on_rows: Called with the number of rows just answered.
    Raises:
        InputError: No records, or one leaves no room for an answer.
        MachineError: Finished rows could not be kept.
    """
    from glmops.models.generation import plan_batches
    from glmops.models.tokenizers import special_ids

    require_records(checkpoint.folder, records)
    prompts = prompts_of(records, checkpoint)
    checkpoint.engine.require_room(prompts, max_new_tokens)
    stop_ids = special_ids(checkpoint.contract.stop, checkpoint.tokenizer)
    size = batch_size * checkpoint.engine.rows_at_once
    journal = journal_of(
        work, "answers", checkpoint, records, batch_size=size, max_new_tokens=max_new_tokens
    )
    rows = journal.read()
    # Answers of one task are of like length, and a batch writes until its longest answer ends.
    kinds = [TASKS.index(record.task) for record in records]
    for batch in plan_batches([len(prompt) for prompt in prompts], max_new_tokens, size, kinds):
        if not all(place in rows for place in batch):
            some = [prompts[place] for place in batch]
            written = checkpoint.engine.write(some, stop_ids, max_new_tokens)
            values = [(said.text, said.finished) for said in written]
            finished = dict(zip(batch, values, strict=True))
            journal.append(finished)
            rows.update(finished)
        if on_rows:
            on_rows(len(batch))
    return [
        Answer(record.id, record.task, record.prompt, record.target, *rows[place])
        for place, record in enumerate(records)
    ]


def require_records(checkpoint: Path, records: Sequence[Record]) -> None:
    if not records:
        raise InputError(checkpoint, "there are no records to answer", do="Enlarge the test split.")


def prompts_of(records: Sequence[Record], checkpoint: Checkpoint) -> list[list[int]]:
    """Token ids of each record's prompt, as they were made for training.

    Raises:
        InputError: What may not be cut of a prompt is too long alone.
    """
    from glmops.models.tokenizers import prompt_ids

    return [
        prompt_ids(
            prompt_of(record),
            checkpoint.contract,
            checkpoint.tokenizer,
            f"{record.file}:{record.line}",
        )
        for record in records
    ]


def journal_of(
    work: Path | None,
    kind: str,
    checkpoint: Checkpoint,
    records: Sequence[Record],
    **settings: Any,
) -> Journal:
    """The journal of these inputs below ``work``; those of other inputs lie beside it.

    Its name is the hash of all that a row could depend on: the files of the checkpoint, the
    records, the settings, our code and the libraries'.
    """
    if work is None:
        return Journal(None)
    inputs = {
        "checkpoint": sha256_tree(checkpoint.folder),
        "engine": checkpoint.name,
        "records": [[record.task, record.head, record.body, record.cue] for record in records],
        "turns": [record.turns for record in records],
        "settings": settings,
        "code": _code(),
        "libraries": _versions(),
    }
    return Journal(work / f"{kind}-{sha256_json(inputs)[:16]}.jsonl")


def _code() -> dict[str, str]:
    import glmops

    root = Path(str(glmops.__file__)).parent
    files = [*root.glob("evaluate/**/*.py"), *root.glob("models/**/*.py")]
    return {path.relative_to(root).as_posix(): sha256_file(path) for path in sorted(files)}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers")}
