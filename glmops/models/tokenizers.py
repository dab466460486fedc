"""Tokenizers, and the one function that turns a prompt into ids, for training and for answering.

No torch here: ``encode`` loads this module and nothing else of ``glmops.models``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glmops.contract import Contract
from glmops.errors import InputError, RecipeError
from glmops.templates import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD = "<|endoftext|>"
# GLM-4's own names, in its own order. The vocabulary starts with them.
SPECIAL_TOKENS = (
    PAD,
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)


class PlacedPrompt(NamedTuple):
    """A prompt as ids, special tokens included, and how many characters of its body were cut."""

    ids: list[int]
    cut: int


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most ``vocab_size`` entries, special tokens included.

    Equal texts in equal order give equal bytes on disk. It pads on the left, for generation.

    Raises:
        RecipeError: ``vocab_size`` is smaller than the special tokens and the 256 bytes.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Every Chinese character is a piece of its own: a name then has the same ids in the
            # text, where its neighbours differ, and in the answer, so that it can be copied.
            pre_tokenizers.Split(Regex(r"\p{Han}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # BpeTrainer keeps its whole alphabet even where that exceeds vocab_size, and says nothing.
    if tokenizer.get_vocab_size() > vocab_size:
        raise RecipeError(
            "encode.tokenizer.vocab_size",
            f"too small for the {len(SPECIAL_TOKENS)} special tokens and the 256 bytes",
            got=vocab_size,
            do=f"Set it to {tokenizer.get_vocab_size()} or more.",
        )
    return _wrap(tokenizer)


def load_tokenizer(path: Path | str) -> PreTrainedTokenizerFast:
    """The tokenizer stored in the folder ``path``: local files only, and no code from the folder.

    ``.encode(text, add_special_tokens=False)`` gives plain ids.

    Raises:
        InputError: The folder or its tokenizer.json is missing or cannot be read.
    """
    from transformers import PreTrainedTokenizerFast

    folder = Path(path)
    file = folder / "tokenizer.json"
    if not folder.is_dir():
        raise InputError(folder, "no such folder", do="Give the folder of a saved tokenizer.")
    if not file.is_file():
        raise InputError(folder, "no tokenizer.json in it", do="Save the tokenizer there again.")
    try:
        return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception on a broken file
        raise InputError(
            file, f"not a readable tokenizer ({error})", do="Save the tokenizer there again."
        ) from error


def text_ids(text: str, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids of text that a user or a data set wrote: ``<sop>`` in it is five characters, not a
    control token."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return ids


def special_ids(tokens: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids of control tokens of a contract.

    Raises:
        InputError: The tokenizer has no such control token.
    """
    vocabulary = tokenizer.get_added_vocab()
    for token in tokens:
        if token not in vocabulary:
            raise InputError(
                "tokenizer",
                "the contract's control token is not in it",
                got=token,
                do="Use the tokenizer that belongs to the contract's model family.",
            )
    return [vocabulary[token] for token in tokens]


def prompt_ids(
    prompt: Prompt, contract: Contract, tokenizer: PreTrainedTokenizerFast, where: object = "prompt"
) -> list[int]:
    """The ids a model is given before it answers: ``place_prompt`` without the account of cuts."""
    return place_prompt(prompt, contract, tokenizer, where).ids


def place_prompt(
    prompt: Prompt, contract: Contract, tokenizer: PreTrainedTokenizerFast, where: object = "prompt"
) -> PlacedPrompt:
    """``before`` prompt ``between`` as at most ``contract.max_prompt_tokens`` ids.

    A prompt that is too long loses the end of its body, in whole characters; head and cue stay
    whole. The text is encoded in one piece, cut or not: the ids are those of a text that a user
    could have typed.

    Raises:
        InputError: Head and cue alone do not fit; ``where`` names the row.
    """
    before = special_ids(contract.before, tokenizer)
    between = special_ids(contract.between, tokenizer)
    room = contract.max_prompt_tokens - len(before) - len(between)
    keep = len(prompt.body)
    while True:
        text = prompt.head + prompt.body[:keep] + prompt.cue
        encoded = tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        ids: list[int] = encoded.input_ids
        excess = len(ids) - room
        if excess <= 0:
            return PlacedPrompt([*before, *ids, *between], len(prompt.body) - keep)
        if keep == 0:
            raise InputError(
                where,
                f"the prompt without its body has {len(ids)} tokens, more than the {room} allowed",
                do="Raise encode.max_prompt_tokens, or shorten the instruction and the question.",
            )
        # Where the tokens that are too many begin. Cutting there can change how the last
        # characters merge, hence the loop; it ends because every round cuts a character or more.
        body_end = len(prompt.head) + keep
        starts = [start for start, _ in encoded.offset_mapping if start < body_end]
        cut_at = starts[-excess] if excess <= len(starts) else 0
        keep = max(0, min(cut_at - len(prompt.head), keep - 1))


def _wrap(tokenizer: object) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=PAD,
        pad_token=PAD,
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
