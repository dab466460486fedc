"""The tokenizers of ChatGLM2-6B and ChatGLM3-6B against the originals' own output."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatglm_text import nasty
from glmops.models.tokenizers import load_tokenizer, special_ids, text_ids


@pytest.fixture(params=["v2", "v3"])
def stored(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> tuple[Any, Any, Path]:
    """(tokenizer, what the original gave, folder)"""
    folder = shared(f"reference/tokenizer/{request.param}")
    return load_tokenizer(folder), json.loads((folder / "reference.json").read_text()), folder


def require_strings(tokenizer: Any, cases: list[dict[str, Any]]) -> None:
    for case in cases:
        text = case["text"]
        ids = tokenizer(text).input_ids
        assert ids == case["input_ids"], text
        assert tokenizer.encode(text, add_special_tokens=False) == case["ids_no_special"], text
        assert tokenizer.tokenize(text) == case["tokens"], text
        assert tokenizer.decode(ids) == case["decode"], text
        assert tokenizer.decode(ids, skip_special_tokens=True) == case["decode_skip_special"], text
        assert tokenizer.decode(case["ids_no_special"]) == case["decode_no_special_ids"], text


def test_every_string_has_the_originals_ids_pieces_and_text(
    stored: tuple[Any, Any, Path], tmp_path: Path
) -> None:
    tokenizer, reference, _ = stored
    require_strings(tokenizer, reference["strings"])
    tokenizer.save_pretrained(str(tmp_path))
    loaded = load_tokenizer(tmp_path)
    require_strings(loaded, reference["strings"])
    assert loaded.family == tokenizer.family
    require_strings(pickle.loads(pickle.dumps(loaded)), reference["strings"])


def test_pairs_truncation_and_padding_have_the_originals_ids(
    stored: tuple[Any, Any, Path],
) -> None:
    tokenizer, reference, _ = stored
    for case in reference.get("pairs", []):
        assert tokenizer(case["a"], case["b"]).input_ids == case["input_ids"]
    for case in reference.get("truncation", []):
        cut = tokenizer(case["text"], truncation=True, max_length=case["max_length"])
        assert cut.input_ids == case["input_ids"]
    for name in ("batch_padded", "batch_max_length"):
        if padded := reference.get(name):
            width = len(padded["input_ids"][0])
            found = tokenizer(
                padded["texts"], padding="max_length", truncation=True, max_length=width
            )
            assert found.input_ids == padded["input_ids"]
            assert found.attention_mask == padded["attention_mask"]


def test_ids_of_names_and_sizes_are_the_originals(stored: tuple[Any, Any, Path]) -> None:
    tokenizer, reference, _ = stored
    info = reference["info"]
    assert (len(tokenizer), tokenizer.vocab_size) == (info["len"], info["vocab_size"])
    for token, index in info["token_ids"].items():
        assert tokenizer.convert_tokens_to_ids(token) == index
    for name in ("bos", "eos", "pad", "mask"):
        assert getattr(tokenizer, f"{name}_token_id") == info[f"{name}_token_id"]
    for token, index in reference["commands"].items():
        plain = {"<bos>": "<s>", "<eos>": "</s>", "<pad>": "<unk>"}.get(token, token)
        assert special_ids([plain], tokenizer) == [index]


def test_roles_in_a_text_are_tokens_only_where_they_are_asked_for(
    shared: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shared("reference/tokenizer/v3")
    reference = json.loads((folder / "reference.json").read_text())
    tokenizer = load_tokenizer(folder, encode_special_tokens=True)
    require_strings(tokenizer, reference["strings_encode_special_tokens"])
    tokenizer.save_pretrained(str(tmp_path))
    require_strings(load_tokenizer(tmp_path), reference["strings_encode_special_tokens"])
    plain = load_tokenizer(folder)
    for text in ("a<|user|>b", "[gMASK]sop</s><unk>"):
        assert text_ids(text, tokenizer) == text_ids(text, plain)
        assert tokenizer.decode(text_ids(text, tokenizer)) == text


@pytest.mark.parametrize("count", [3000])
def test_nasty_strings_have_sentencepieces_ids_and_text(
    stored: tuple[Any, Any, Path], count: int
) -> None:
    import sentencepiece

    tokenizer, _, folder = stored
    library = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    texts = nasty(count, 20261124)
    found = tokenizer(texts, add_special_tokens=False).input_ids
    for text, ids in zip(texts, found, strict=True):
        assert ids == library.encode(text), repr(text)
        assert tokenizer.decode(ids) == library.decode(ids), repr(text)
    draw = random.Random(3)
    for _ in range(500):
        ids = [draw.randrange(3, library.vocab_size()) for _ in range(draw.randint(0, 16))]
        assert tokenizer.decode(ids) == library.decode(ids)


def test_ids_beyond_the_vocabulary_write_nothing(stored: tuple[Any, Any, Path]) -> None:
    # The models have more rows than there are tokens; the originals stop with an error here.
    tokenizer, _, _ = stored
    ids = text_ids("你好", tokenizer)
    assert tokenizer.decode([*ids, 99_999]) == "你好"
