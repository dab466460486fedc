"""Small tokenizers of every kind that encode meets, and texts that are hard for them."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import toy_model as toy
from glmops.models.tokenizers import SPECIAL_TOKENS, load_tokenizer
from glmops.models.tokenizers.tiktoken import PATTERN

Find = Callable[[str], Path]

# Family of the contract → a folder of the reference data.
ORIGINAL = {
    "chatglm": "reference/tokenizer/v1",
    "chatglm2": "reference/tokenizer/v2",
    "chatglm3": "reference/tokenizer/v3",
}

TEXTS = (
    "",
    " ",
    "草地",
    "雪山：3D 打印，第12天",
    "it's 1,234.5 'quoted' don't",
    "  two  blanks\n\n\tand a tab ",
    "全角：ＡＢＣ，１２３。",
    "<sop>[gMASK]<eop><|endoftext|></s>[MASK]<n><0x41>",
    "🙂👨‍👩‍👧 é e\u0301 𠮷 龘 々 〇 한국 かな",
    "看看看看看______……",
    "\u3000\xa0\u200b\ufeff\x00",
    "a" * 50,
    "王小明和 Li Hua 在2018年5月，于“北京”相识。",
)


def hard_texts(number: int, seed: int = 0) -> list[str]:
    """TEXTS, and random joins of their characters."""
    draw = random.Random(seed)
    letters = "".join(TEXTS) + "的一是在不了有和人这" * 3
    made = ["".join(draw.choices(letters, k=draw.randint(0, 24))) for _ in range(number)]
    return [*TEXTS, *made]


@cache
def letter_runs(kind: str) -> Any:
    """A byte-level BPE that cuts texts as GLM-4 or GPT-2 does. No test may change it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = {
        "glm4": pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
        "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    }[kind]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    rows = [row.prompt + row.target for row in toy.RECORDS]
    tokenizer.train_from_iterator([*rows, *hard_texts(200)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=SPECIAL_TOKENS[0],
        pad_token=SPECIAL_TOKENS[0],
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
    )


def of_family(family: str, shared: Find) -> Any:
    """A tokenizer of a contract's family: ours, or from the reference data."""
    if family in ORIGINAL:
        return load_tokenizer(shared(ORIGINAL[family]), family=family)
    return {"glm": toy.tokenizer, "gpt": lambda: letter_runs("gpt2")}[family]()
