from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import toy_model as toy
from glmops.encode.dataset import encode_dataset
from glmops.encode.vocabulary import tokenizer_hash
from glmops.errors import InputError, RecipeError
from glmops.models.tokenizers import load_tokenizer, text_ids
from glmops.recipe import TokenizerSource
from glmops.recipe import parse as parse_recipe

ZEROS = "0" * 64


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A checkpoint's folder: tokenizer files with weights beside them."""
    folder = tmp_path / "models" / "base"
    toy.tokenizer().save_pretrained(str(folder))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_the_tokenizer_of_a_base_is_taken_as_it_is(base: Path, tmp_path: Path) -> None:
    source = {"path": "models/base", "sha256": tokenizer_hash(base)}
    settings = toy.encode_settings(tokenizer=source, base_text="none")
    prepared = toy.write_prepared(tmp_path / "prepared")
    account = encode_dataset(prepared, settings, root=tmp_path, folder=tmp_path / "out")
    assert not (tmp_path / "out" / "base.arrow").exists()
    assert account.metrics["tokenizer"] == tokenizer_hash(tmp_path / "out" / "tokenizer")
    loaded = load_tokenizer(tmp_path / "out" / "tokenizer")
    for row in toy.RECORDS:
        assert text_ids(row.prompt, loaded) == text_ids(row.prompt, toy.tokenizer())


def test_no_token_of_a_trained_vocabulary_reaches_from_a_prompt_into_its_answer(
    tmp_path: Path,
) -> None:
    kinds = ("news_car", "news_culture", "news_sports")
    rows = [replace(row, cue="|", target=kinds[at % 3]) for at, row in enumerate(toy.RECORDS)]
    prepared = toy.write_prepared(tmp_path / "prepared", rows[:40], rows[40:])
    settings = toy.encode_settings(base_text="none")
    encode_dataset(prepared, settings, root=tmp_path, folder=tmp_path / "out")
    made = load_tokenizer(tmp_path / "out" / "tokenizer")
    assert not [token for token in made.get_vocab() if token.startswith("|n")]
    # With room for them in the vocabulary, answers that come over and over are one token each.
    assert [len(text_ids(kind, made)) for kind in kinds] == [1, 1, 1]


def test_other_files_than_the_recipe_names_are_refused(base: Path, tmp_path: Path) -> None:
    prepared = toy.write_prepared(tmp_path / "prepared")
    right = tokenizer_hash(base)
    settings = toy.encode_settings(tokenizer={"path": "models/base", "sha256": ZEROS})
    with pytest.raises(InputError, match=rf"not those that the recipe names .* got '{right}'"):
        encode_dataset(prepared, settings, root=tmp_path, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_hash_is_that_of_the_tokenizer_files_alone(base: Path) -> None:
    before = tokenizer_hash(base)
    (base / "model.safetensors").write_bytes(b"other weights")
    (base / "README.md").write_text("words")
    assert tokenizer_hash(base) == before
    (base / "tokenizer_config.json").write_text("{}")
    assert tokenizer_hash(base) != before


def test_a_folder_without_a_whole_tokenizer_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    prepared = toy.write_prepared(tmp_path / "prepared")

    def encode(path: str, sha256: str) -> None:
        settings = toy.encode_settings(tokenizer={"path": path, "sha256": sha256})
        encode_dataset(prepared, settings, root=tmp_path, folder=tmp_path / "out")

    with pytest.raises(InputError, match=r"models/absent: no such folder"):
        encode("models/absent", ZEROS)
    for broken in ('{"model": ', "{}"):
        (base / "tokenizer.json").write_text(broken)
        with pytest.raises(InputError, match=r"tokenizer\.json: not a readable tokenizer"):
            encode("models/base", tokenizer_hash(base))
    (base / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"models/base: no tokenizer\.json in it"):
        encode("models/base", ZEROS)


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"train": "byte-bpe"},
        {"path": "models/base"},
        {"train": "byte-bpe", "vocab_size": 400, "path": "models/base", "sha256": ZEROS},
        {"vocab_size": 400, "sha256": ZEROS},
    ],
)
def test_a_tokenizer_comes_from_one_place(source: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="needs either train and vocab_size, or path and sha256"):
        parse_recipe(TokenizerSource, source, "recipe")


def test_packs_are_asked_for_with_their_size_and_hold_the_longest_row() -> None:
    # 64 + 16 tokens are the longest row of the toy's contract.
    assert toy.encode_settings(packing="best-fit", pack_tokens=80).pack_tokens == 80
    for wrong, says in (
        ({"packing": "best-fit"}, "needs pack_tokens"),
        ({"pack_tokens": 80}, "needs pack_tokens"),
        ({"packing": "best-fit", "pack_tokens": 79}, "must hold the longest row"),
    ):
        with pytest.raises(ValueError, match=says):
            toy.encode_settings(**wrong)
