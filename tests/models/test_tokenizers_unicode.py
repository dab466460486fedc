"""No text is lost: nasty Unicode against the SentencePiece library with ChatGLM's rules.

``python -m benchmarks.unicode`` does the same with as many strings as wanted.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatglm_text import Oracle, nasty
from glmops.models.tokenizers import load_tokenizer, text_ids
from glmops.models.tokenizers.charsmap import Charsmap
from glmops.models.tokenizers.model_file import read_model_file
from glmops.models.tokenizers.risks import risks


@pytest.fixture(scope="module", params=["v1", "v1-official"])
def pair(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> tuple[Any, Oracle, Path]:
    folder = shared(f"reference/tokenizer/{request.param}")
    return load_tokenizer(folder), Oracle(folder / "ice_text.model"), folder / "ice_text.model"


@pytest.mark.parametrize("plain", [True, False])
def test_nasty_strings_have_sentencepieces_ids_by_every_way(
    pair: tuple[Any, Oracle, Path], plain: bool
) -> None:
    tokenizer, oracle, _ = pair
    texts = nasty(3000, 20261123)
    expected = [oracle.ids(text, plain=plain) for text in texts]
    settings = {"add_special_tokens": False, "split_special_tokens": plain}
    assert tokenizer(texts, **settings).input_ids == expected
    one_by_one = [tokenizer(text, **settings).input_ids for text in texts[:600]]
    assert one_by_one == expected[:600]
    backend = tokenizer.backend_tokenizer
    assert [e.ids for e in backend.encode_batch(texts, add_special_tokens=False)] == expected


def test_rust_alone_would_lose_text(pair: tuple[Any, Oracle, Path]) -> None:
    # So that the tests above cannot pass because nothing was at stake.
    tokenizer, oracle, _ = pair
    text = "ｅ\u0301"  # a full-width e with an accent
    rust = tokenizer.backend_tokenizer._whole.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(rust) == "e"
    assert tokenizer.decode(text_ids(text, tokenizer)) == "é"
    assert text_ids(text, tokenizer) == oracle.ids(text)


def test_decoding_any_ids_gives_sentencepieces_text(pair: tuple[Any, Oracle, Path]) -> None:
    tokenizer, oracle, _ = pair
    library = oracle.library
    draw = random.Random(3)
    for _ in range(1500):
        ids = [draw.randrange(library.vocab_size()) for _ in range(draw.randint(0, 12))]
        ids += [draw.randrange(library.vocab_size() - 256, library.vocab_size()) for _ in ids[:4]]
        draw.shuffle(ids)
        expected = library.decode([library.id_to_piece(index) for index in ids])
        assert tokenizer._surfaces.text(ids) == expected


def test_no_safe_character_joins_the_one_before_it(pair: tuple[Any, Oracle, Path]) -> None:
    # Every key of the table is a character or a sequence; walked here over all of Unicode pairs
    # that could form one: a character and each mark that NFKC composes with something.
    *_, file = pair
    charsmap = Charsmap(read_model_file(file).charsmap)
    safe = risks([]).notable
    marks = [chr(code) for code in range(0x110000) if unicodedata.combining(chr(code))]
    jamo = [chr(code) for code in (*range(0x1161, 0x11C3), *range(0x3131, 0x3164))]
    for later in [*marks, *jamo, "\u09be", "\u0b3e", "\u0dcf", "\uff9e", "\uff9f"]:
        assert safe.match(later), f"U+{ord(later):04X}"
    firsts = [chr(code) for code in range(0x20, 0x3400) if not safe.match(chr(code))]
    for first in firsts:
        for later in "aＡ的。 1é":
            found = charsmap.longest(first + later, 0)
            assert found is None or found[1] == 1, first + later


def test_rust_normalises_safe_characters_exactly(pair: tuple[Any, Oracle, Path]) -> None:
    # The other half: each safe character, alone and behind others, through Rust's normaliser.
    tokenizer, oracle, _ = pair
    unsafe = risks([]).notable
    characters = [chr(code) for code in range(0x20, 0x30000) if not 0xD800 <= code < 0xE000]
    safe = [character for character in characters if not unsafe.match(character)]
    normalizer = tokenizer.backend_tokenizer._tiers[1].normalizer
    for start in range(0, len(safe), 61):
        text = "".join(safe[start : start + 61])
        expected = oracle.library.normalize(text)
        assert normalizer.normalize_str(text) == expected, repr(text)
