"""What encoding needs to know: the contract's control tokens as ids, and the tokenizer's rules."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmops.contract import Contract
from glmops.encode.edges import beside_han, seam_of
from glmops.errors import InputError
from glmops.models.tokenizers import load_tokenizer, special_ids
from glmops.storage import read_json

_PLAIN = ("TokenizersBackend", "PreTrainedTokenizerFast")


@dataclass(frozen=True, slots=True)
class Plan:
    """What encoding needs, in a form that another process can be given.

    ``rules`` is the tokenizer.json of a tokenizer that is nothing but that; "" for one with steps
    of its own, which then has to be loaded from ``folder``. ``vocabulary`` counts its ids;
    ``quick`` says that one process is as fast as several on all but the largest sets.
    """

    contract: Contract
    folder: Path
    rules: str
    vocabulary: int
    quick: bool
    before: tuple[int, ...]
    between: tuple[int, ...]
    end: int


def make_plan(contract: Contract, folder: Path) -> Plan:
    """The plan for encoding with the tokenizer in ``folder``.

    Raises:
        InputError: It cannot be read, or lacks a control token of the contract.
    """
    from tokenizers import Tokenizer

    tokenizer = load_tokenizer(folder)
    special_ids(contract.stop, tokenizer)
    backend = tokenizer.backend_tokenizer
    rules = _text_rules(backend) if isinstance(backend, Tokenizer) else ""
    return Plan(
        contract=contract,
        folder=folder,
        rules=rules,
        vocabulary=len(tokenizer),
        quick=bool(rules) and seam_of(rules) is beside_han,
        before=tuple(special_ids(contract.before, tokenizer)),
        between=tuple(special_ids(contract.between, tokenizer)),
        end=special_ids([contract.end], tokenizer)[0],
    )


def guess_plan(contract: Contract, folder: Path) -> Plan | None:
    """What ``make_plan`` will most likely say, without the seconds that transformers needs to load.

    None where the tokenizer may have steps of its own, or lacks a control token. A guess must be
    compared with what ``make_plan`` says before anything is made of the ids.

    Raises:
        InputError: The tokenizer cannot be read.
    """
    from tokenizers import Tokenizer

    file, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    settings = read_json(config) if config.is_file() else None
    if not isinstance(settings, dict) or settings.get("tokenizer_class") not in _PLAIN:
        return None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception on a broken file
        raise InputError(
            file, f"not a readable tokenizer ({error})", do="Save the tokenizer there again."
        ) from error
    known = {token.content: i for i, token in tokenizer.get_added_tokens_decoder().items()}
    wanted = {*contract.before, *contract.between, contract.end, *contract.stop}
    if not wanted <= set(known):
        return None
    rules = _text_rules(tokenizer)
    return Plan(
        contract=contract,
        folder=folder,
        rules=rules,
        vocabulary=tokenizer.get_vocab_size(),
        quick=seam_of(rules) is beside_han,
        before=tuple(known[token] for token in contract.before),
        between=tuple(known[token] for token in contract.between),
        end=known[contract.end],
    )


def _text_rules(tokenizer: Any) -> str:
    """A tokenizer.json with only what decides the ids of a text."""
    rules = json.loads(tokenizer.to_str())
    unneeded = dict.fromkeys(("truncation", "padding", "post_processor", "decoder"))
    return json.dumps({**rules, **unneeded}, ensure_ascii=False)
