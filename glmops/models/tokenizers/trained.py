"""A tokenizer trained on a recipe's own data, for models from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from glmops.errors import RecipeError, lookup

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

PIECES = {
    "byte-bpe": r"\p{Han}",
    "byte-bpe-words": r"\p{Han}+|[\p{Latin}_]+|\p{N}|\s+",
}
"""What no token reaches across, by the name that a recipe uses.

byte-bpe: every Chinese character is a piece of its own: a name then has the same ids in the text,
where its neighbours differ, and in the answer, so that it can be copied. byte-bpe-words: Chinese
characters that often stand together share a token, so that rows are shorter and a word says its
topic at once; what has to be copied character by character is then harder."""


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    control: Iterable[str] = (),
    *,
    pieces: str = "byte-bpe",
) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most ``vocab_size`` entries, special tokens included.

    Equal texts in equal order give equal bytes on disk. It pads on the left, for generation.

    Args:
        control: Control tokens of the contract; those that GLM-4 does not have (``sop`` and
            ``</s>`` of ChatGLM2) come behind its own.
        pieces: A name in PIECES: what no token reaches across.
    Raises:
        RecipeError: ``vocab_size`` is smaller than the special tokens and the 256 bytes.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    special = tuple(dict.fromkeys((*SPECIAL_TOKENS, *control)))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(lookup(PIECES, pieces, "tokenizer")), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # BpeTrainer keeps its whole alphabet even where that exceeds vocab_size, and says nothing.
    if tokenizer.get_vocab_size() > vocab_size:
        raise RecipeError(
            "encode.tokenizer.vocab_size",
            f"too small for the {len(special)} special tokens and the 256 bytes",
            got=vocab_size,
            do=f"Set it to {tokenizer.get_vocab_size()} or more.",
        )
    return _wrap(tokenizer, special)


def _wrap(tokenizer: object, special: tuple[str, ...]) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=PAD,
        pad_token=PAD,
        additional_special_tokens=list(special[1:]),
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
