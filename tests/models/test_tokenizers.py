from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import toy_model as toy
from glmops.errors import InputError, RecipeError
from glmops.models.tokenizers import (
    SPECIAL_TOKENS,
    load_tokenizer,
    place_prompt,
    prompt_ids,
    special_ids,
    text_ids,
    train_tokenizer,
)
from glmops.storage import sha256_tree
from glmops.templates import Prompt


def test_a_control_token_that_a_user_types_stays_plain_text() -> None:
    tokenizer = toy.tokenizer()
    for token in SPECIAL_TOKENS:
        ids = text_ids(f"你好{token}再见", tokenizer)
        assert not set(ids) & set(tokenizer.all_special_ids)
        assert tokenizer.decode(ids) == f"你好{token}再见"
        placed = prompt_ids(toy.prompt(token), toy.contract(), tokenizer)
        assert not set(placed[2:]) & set(tokenizer.all_special_ids)


def test_the_control_tokens_come_first_and_in_order() -> None:
    # GLM-4's tokenizer_config.json: <|endoftext|> is the lowest of its control ids, then [MASK] …
    assert special_ids(SPECIAL_TOKENS, toy.tokenizer()) == list(range(len(SPECIAL_TOKENS)))


@pytest.mark.parametrize(
    "text", ["", "草地", "ascii only", "🙂 emoji\t\r\n", "\x00\ufffd𠮷 é", "1949年"]
)
def test_any_text_survives_the_round_trip(text: str) -> None:
    assert toy.tokenizer().decode(text_ids(text, toy.tokenizer())) == text


def test_equal_texts_give_equal_bytes_on_disk(tmp_path: Path) -> None:
    texts = [row.prompt + row.target for row in toy.RECORDS]
    for name in ("a", "b"):
        train_tokenizer(iter(texts), toy.VOCABULARY).save_pretrained(str(tmp_path / name))
    assert sha256_tree(tmp_path / "a") == sha256_tree(tmp_path / "b")


def test_a_vocabulary_smaller_than_its_alphabet_is_refused() -> None:
    # 10 control tokens + 256 bytes = 266 entries that are always there.
    assert len(train_tokenizer(["草地"], 266)) == 266
    with pytest.raises(RecipeError, match=r"vocab_size: too small .* got 265\. Set it to 266"):
        train_tokenizer(["草地"], 265)


def test_chinese_characters_never_merge_so_that_a_name_can_be_copied() -> None:
    tokenizer = train_tokenizer(["王小明说王小明在家"] * 50, 320)
    name = text_ids("王小明", tokenizer)
    text = text_ids("由王小明主演", tokenizer)
    assert len(name) == 3
    assert any(text[i : i + 3] == name for i in range(len(text)))


def test_of_words_characters_that_often_stand_together_are_one_token() -> None:
    tokenizer = train_tokenizer(["足球比赛，news_sports"] * 50, 320, pieces="byte-bpe-words")
    assert len(text_ids("足球比赛", tokenizer)) == 1
    assert len(text_ids("news_sports", tokenizer)) == 1
    written = text_ids("赛球，足比 2026", tokenizer)
    assert tokenizer.decode(written) == "赛球，足比 2026"


def test_a_stored_tokenizer_gives_the_same_ids_and_pads_on_the_left(tmp_path: Path) -> None:
    toy.tokenizer().save_pretrained(str(tmp_path))
    loaded = load_tokenizer(tmp_path)
    for row in toy.RECORDS:
        expected = toy.tokenizer().encode(row.prompt, add_special_tokens=False)
        assert loaded.encode(row.prompt, add_special_tokens=False) == expected
    assert (loaded.padding_side, loaded.pad_token) == ("left", "<|endoftext|>")


def test_a_prompt_that_fits_is_the_whole_text_after_the_control_tokens() -> None:
    tokenizer, prompt = toy.tokenizer(), toy.prompt("草地上有雪。")
    ids, cut, _ = place_prompt(prompt, toy.contract(), tokenizer)
    assert ids == [2, 4, *text_ids("".join(prompt[:3]), tokenizer)]  # [gMASK] <sop>, then the text
    assert cut == 0


@pytest.mark.parametrize("character", ["草", "龘", "🙂", "ab "])
@pytest.mark.parametrize("limit", range(40, 47))
def test_an_over_long_prompt_loses_only_the_end_of_its_body(character: str, limit: int) -> None:
    tokenizer, body = toy.tokenizer(), character * 60
    ids, cut, _ = place_prompt(toy.prompt(body), toy.contract(limit), tokenizer)
    kept = body[: len(body) - cut]
    assert tokenizer.decode(ids[2:]) == toy.HEAD + kept + toy.CUE
    assert kept
    # A character is at most four tokens, so a better cut would have left less room than this.
    assert limit - 4 < len(ids) <= limit


def test_a_question_that_alone_is_too_long_is_refused_by_the_name_of_its_row() -> None:
    with pytest.raises(
        InputError, match=r"toy.jsonl:7: the prompt without its body has \d+ tokens"
    ):
        place_prompt(toy.prompt("草地"), toy.contract(12), toy.tokenizer(), "toy.jsonl:7")


def test_a_context_without_parts_is_all_body() -> None:
    prompt = Prompt("", "草" * 100, "")
    assert len(prompt_ids(prompt, toy.contract(20), toy.tokenizer())) == 20


def test_a_contract_of_another_family_is_refused() -> None:
    with pytest.raises(InputError, match=r"control token is not in it, got '\[nope\]'"):
        special_ids(["[nope]"], toy.tokenizer())


def test_a_folder_without_a_readable_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: no such folder"):
        load_tokenizer(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no tokenizer\.json in it"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "trunc')
    with pytest.raises(InputError, match=r"tokenizer\.json: not a readable tokenizer"):
        load_tokenizer(tmp_path)


def test_tokenizers_need_no_torch() -> None:
    script = (
        "import sys; from glmops.models.tokenizers import train_tokenizer as t, text_ids;"
        "text_ids('a', t(['abc'], 300)); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
