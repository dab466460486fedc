"""GLM-4's tokenizer against the tiktoken library, on a vocabulary made here."""

from __future__ import annotations

import base64
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import regex
import tiktoken

from chatglm_text import nasty
from glmops.errors import InputError
from glmops.models.tokenizers import chat_ids, load_tokenizer, special_ids, stop_ids, text_ids
from glmops.models.tokenizers.tiktoken import CONTROL, PATTERN

TEXT = (
    "你好，世界！今天天气怎么样？hello world, it's the 1234567th day.\n\n  def f(x):\n\treturn x\n"
    * 3
)


def trained(text: str, size: int) -> dict[bytes, int]:
    """Byte pair encoding by its definition: join the most frequent pair, again and again."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    words = [[bytes([b]) for b in word.encode()] for word in regex.findall(PATTERN, text)]
    while len(ranks) < size:
        pairs = Counter(pair for word in words for pair in pairwise(word))
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        ranks[best[0] + best[1]] = len(ranks)
        for word in words:
            for place in range(len(word) - 1):
                if tuple(word[place : place + 2]) == best:
                    word[place : place + 2] = [best[0] + best[1]]
    return ranks


def written(ranks: dict[bytes, int]) -> str:
    return "".join(f"{base64.b64encode(t).decode()} {rank}\n" for t, rank in ranks.items())


RANKS = trained(TEXT, 400)
LIBRARY = tiktoken.Encoding(
    "glm4",
    pat_str=PATTERN,
    mergeable_ranks=RANKS,
    special_tokens={token: len(RANKS) + place for place, token in enumerate(CONTROL)},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.model").write_text(written(RANKS))
    return tmp_path


def test_texts_have_tiktokens_ids_and_come_back(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.save_pretrained(str(tmp_path / "native"))
    texts = [*nasty(2000, 7), TEXT, "a" * 50, "<|user|>hi<eop>", ""]
    for opened in (tokenizer, load_tokenizer(tmp_path / "native")):
        for text in texts:
            plain = text_ids(text, opened)
            assert plain == LIBRARY.encode(text, disallowed_special=()), repr(text)
            assert opened.decode(plain) == text
            known = opened.encode(text, add_special_tokens=False)
            assert known == LIBRARY.encode(text, allowed_special="all"), repr(text)


def test_a_row_begins_with_gmask_and_sop(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    before = special_ids(["[gMASK]", "<sop>"], tokenizer)
    assert tokenizer("你好").input_ids == [*before, *LIBRARY.encode("你好")]


def test_a_chat_is_roles_and_texts_and_stops_at_the_next_turn(folder: Path) -> None:
    # The published code encodes metadata with its line break and the content one by one.
    tokenizer = load_tokenizer(folder)
    control = {token: len(RANKS) + place for place, token in enumerate(CONTROL)}
    text = "\n<|user|>你好"
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": text}]
    expected = [control["[gMASK]"], control["<sop>"], control["<|system|>"]]
    expected += [*LIBRARY.encode("\n"), *LIBRARY.encode("s"), control["<|user|>"]]
    expected += LIBRARY.encode("\n") + LIBRARY.encode(text, disallowed_special=())
    assert chat_ids(messages, tokenizer) == [*expected, control["<|assistant|>"]]
    template = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert template == tokenizer.decode(chat_ids(messages, tokenizer))
    stops = ("<|endoftext|>", "<|user|>", "<|observation|>")
    assert stop_ids(tokenizer) == [control[token] for token in stops]


def test_control_tokens_have_the_ids_that_the_checkpoint_lists(folder: Path) -> None:
    listed = {str(len(RANKS) + i): {"content": token} for i, token in enumerate(CONTROL[:10])}
    settings: dict[str, Any] = {"added_tokens_decoder": listed}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert len(load_tokenizer(folder)) == len(RANKS) + 10
    settings["added_tokens_decoder"] = {str(int(i) + 5): t for i, t in listed.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=f"control tokens do not follow the {len(RANKS)}"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (written(RANKS)[:-7], r"tokenizer\.model:\d+: not base64 and a rank"),
        (written({t: r for t, r in RANKS.items() if r != 300}), "but not ranks 0 to"),
        (written({t: r for t, r in RANKS.items() if r != 0}), "but not ranks 0 to"),
        (written(RANKS) + "!!! 400\n", "not base64 and a rank"),
    ],
)
def test_a_broken_file_is_refused(folder: Path, broken: str, fault: str) -> None:
    (folder / "tokenizer.model").write_text(broken)
    with pytest.raises(InputError, match=fault):
        load_tokenizer(folder)
