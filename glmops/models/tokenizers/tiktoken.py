"""GLM-4's tokenizer from its ``tokenizer.model``: byte-level BPE, as lines of base64 and a rank.

The file has no merges: two neighbours are joined when the bytes they make together have a rank,
lowest rank first. Control tokens are not in the file; they follow in the order of the published
code, from the rank after the last one, and tokenizer_config.json may list them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError
from glmops.models.tokenizers.chat_templates import CHAT_TEMPLATES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# How text is cut before bytes are joined. Source: the published tokenizer's settings.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL = (
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
)
_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) ([0-9]+)\s*")


def is_tiktoken(file: Path) -> bool:
    """Whether the file begins with a line of base64 and a rank."""
    with file.open("rb") as stream:
        return _LINE.fullmatch(stream.readline(4096)) is not None


def tiktoken_tokenizer(file: Path, settings: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer of GLM-4.

    Args:
        settings: What tokenizer_config.json says; its ``added_tokens_decoder`` names the control
            tokens by id.
    Raises:
        InputError: A line is broken, a byte has no rank, or ranks are missing or doubled.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        processors,
    )
    from transformers import PreTrainedTokenizerFast

    ranks = _ranks(file)
    letters = _letters()
    names = {token: "".join(letters[byte] for byte in token) for token in ranks}
    tokenizer = Tokenizer(
        models.BPE(
            {names[token]: rank for token, rank in ranks.items()},
            [(names[left], names[right]) for left, right in _merges(ranks)],
            # A cut of the text that is a token as a whole is that token, whatever its parts.
            ignore_merges=True,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = _control(file, settings, len(ranks))
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in control]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[gMASK] <sop> $A",
        pair="[gMASK] <sop> $A $B <|endoftext|>",
        special_tokens=[
            (token, tokenizer.token_to_id(token)) for token in ("[gMASK]", "<sop>", "<|endoftext|>")
        ],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[token for token in control if token != "<|endoftext|>"],
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        chat_template=settings.get("chat_template") or CHAT_TEMPLATES["glm4"],
    )


def _ranks(file: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise InputError(
                f"{file}:{number}",
                "not base64 and a rank",
                got=line.decode("latin-1"),
                do="Copy the file again.",
            ) from None
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise InputError(
            file, f"{len(ranks)} tokens, but not ranks 0 to {len(ranks) - 1}", do="Copy it again."
        )
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise InputError(file, "no token for a byte", got=missing[0], do="Copy the file again.")
    return ranks


def _merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every pair of tokens that makes a third, in the order of the third's rank."""
    merges = [
        (rank, ranks[token[:cut]], token[:cut], token[cut:])
        for token, rank in ranks.items()
        for cut in range(1, len(token))
        if token[:cut] in ranks and token[cut:] in ranks
    ]
    return [(left, right) for *_, left, right in sorted(merges)]


def _letters() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _control(file: Path, settings: Mapping[str, Any], first: int) -> list[str]:
    listed = settings.get("added_tokens_decoder")
    if not listed:
        return list(CONTROL)
    by_id = {int(index): token["content"] for index, token in listed.items()}
    if sorted(by_id) != list(range(first, first + len(by_id))):
        raise InputError(
            file.with_name("tokenizer_config.json"),
            f"its control tokens do not follow the {first} tokens of {file.name}",
            got=min(by_id),
            do="Copy both files from one checkpoint.",
        )
    tokens = [by_id[index] for index in sorted(by_id)]
    if missing := {"[gMASK]", "<sop>", "<|endoftext|>"} - set(tokens):
        raise InputError(
            file.with_name("tokenizer_config.json"),
            "a control token of GLM-4 is not among its added_tokens_decoder",
            got=min(missing),
            do="Copy both files from one checkpoint.",
        )
    return tokens
