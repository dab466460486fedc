"""Prepared rows → the folder that ``train`` reads: tokenizer, contract, Arrow streams."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.contract import contract_for
from glmops.encode.cache import Cache, settings_hash
from glmops.encode.chunks import templates_of
from glmops.encode.lengths import Lengths, histogram_csv, measure
from glmops.encode.packing import best_fit, fill_rate
from glmops.encode.plan import Plan, guess_plan, make_plan
from glmops.encode.split import Job, encode_split, stored_rows
from glmops.encode.streams import StoredRows, write_packs, write_rows
from glmops.encode.vocabulary import save_tokenizer, tokenizer_hash
from glmops.recipe import Encode
from glmops.storage import fresh_folder

if TYPE_CHECKING:
    from glmops.encode.ragged import Ints

# Which answer goes to which row of the base text. Not a setting: no result is read off it.
_DEAL_SEED = 0


@dataclass(frozen=True, slots=True)
class Account:
    """What there is to tell about an encoded set.

    ``plot`` is the text of a CSV file: how many train rows have which length.
    """

    metrics: dict[str, Any]
    plot: str


def encode_dataset(
    prepared: Path,
    settings: Encode,
    *,
    root: Path,
    folder: Path,
    cache: Path | None = None,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Account:
    """Write train and dev streams, tokenizer/, contract.json and refused.jsonl to ``folder``.

    Rows come from train.parquet and dev.parquet in ``prepared``. The contract names their template,
    or that of the first row where they have several. With ``settings.base_text`` base.arrow is
    written too; with packing, train and base hold packs. A row whose answer does not fit is left
    out, listed in refused.jsonl and counted.

    Args:
        root: Where a relative path of ``settings.tokenizer`` starts.
        cache: A folder for encoded chunks, which are used again where nothing of them has changed.
        on_rows: Called with the number of rows just done; in sum, those of both files.
    Raises:
        InputError: A file or the tokenizer cannot be used, or nothing of a split fits.
        MachineError: A worker process was ended.
    """
    train_file = prepared / "train.parquet"
    contract = contract_for(
        templates_of(train_file),
        settings.family,
        max_prompt_tokens=settings.max_prompt_tokens,
        max_answer_tokens=settings.max_answer_tokens,
    )
    with fresh_folder(folder) as draft, ThreadPoolExecutor(1) as beside:
        control = (*contract.before, *contract.between, contract.end)
        save_tokenizer(settings.tokenizer, train_file, root, draft / "tokenizer", control)
        # Loading transformers takes as long as encoding some hundred thousand rows.
        truth = beside.submit(make_plan, contract, draft / "tokenizer")
        plan = guess_plan(contract, draft / "tokenizer") or truth.result()
        metrics, train = _write(prepared, settings, plan, cache, draft, on_rows)
        if truth.result() != plan:
            plan = truth.result()
            metrics, train = _write(prepared, settings, plan, cache, draft, on_rows)
        contract.save(draft)
    return Account(metrics, histogram_csv(train, contract))


def _write(
    prepared: Path,
    settings: Encode,
    plan: Plan,
    cache: Path | None,
    folder: Path,
    on_rows: Callable[[int], None],
) -> tuple[dict[str, Any], Lengths]:
    """Write the streams and refused.jsonl; metrics, and the lengths of the train rows."""
    kept = Cache(cache, settings_hash(plan)) if cache else None
    tokens = folder / ".tokens"
    whole = settings.pack_tokens is None
    needed = settings.base_text != "none" or not whole
    with (folder / "refused.jsonl").open("w", encoding="utf-8", newline="\n") as refused:
        job = Job(plan, kept, refused, on_rows)
        train = encode_split(
            prepared / "train.parquet",
            "train",
            job,
            rows_to=folder / "train.arrow" if whole else None,
            tokens_to=tokens if needed else None,
        )
        dev = encode_split(prepared / "dev.parquet", "dev", job, rows_to=folder / "dev.arrow")
    metrics: dict[str, Any] = {
        "vocabulary": plan.vocabulary,
        "tokenizer": tokenizer_hash(plan.folder),
        "train": measure(train.lengths, train.refused_for),
        "dev": measure(dev.lengths, dev.refused_for),
    }
    if needed:
        metrics |= _write_shared(stored_rows(train, tokens), settings, folder)
        tokens.unlink()
    if kept:
        kept.prune()
    return metrics, train.lengths


def deal(rows: int) -> Ints:
    """Whose answer each row gets: the answers go round one shuffled circle, so that of two or more
    rows none keeps its own. The base learns the words from that, not the tasks."""
    import numpy as np

    circle = list(range(rows))
    random.Random(_DEAL_SEED).shuffle(circle)
    order = np.array(circle, dtype=np.int64)
    giver = np.empty(rows, np.int64)
    giver[order] = np.roll(order, 1)
    return giver


def _write_shared(train: StoredRows, settings: Encode, folder: Path) -> dict[str, Any]:
    """The streams in which rows share something: answers (base) or an Arrow row (packs)."""
    metrics: dict[str, Any] = {}
    sets = {}
    if settings.base_text != "none":
        answers = train.answers[deal(len(train.answers))]
        sets["base"] = replace(train, answers=answers, prompts_learnt=True)
        metrics["base"] = {"tokens": int(sets["base"].lengths.sum())}
    if settings.pack_tokens is None:
        for name, rows in sets.items():
            write_rows(folder / f"{name}.arrow", rows)
        return metrics
    packing = {}
    for name, rows in {**sets, "train": train}.items():
        packs = best_fit(rows.lengths, settings.pack_tokens)
        write_packs(folder / f"{name}.arrow", rows, packs)
        num_packs = len(packs.lengths)
        rate = fill_rate(rows.lengths, num_packs, settings.pack_tokens)
        packing[name] = {"packs": num_packs, "fill": round(rate, 6)}
    return {**metrics, "packing": packing}
