from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import toy_model as toy
from glmops.encode import cache as cache_module
from glmops.encode import chunks, examples, split
from glmops.encode.cache import Cache, settings_hash
from glmops.encode.dataset import encode_dataset
from glmops.encode.plan import Plan, make_plan
from glmops.records import Record
from glmops.storage import sha256_tree
from glmops.templates import TEMPLATES

TRAIN = [toy.record(number) for number in range(600)]


def _settings_hash(tokenizer: Path) -> str:
    return settings_hash(make_plan(toy.contract(), tokenizer))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Encode into ``tmp_path / out`` and return how many rows were really encoded."""
    from glmops.encode.vocabulary import tokenizer_hash

    toy.tokenizer().save_pretrained(str(tmp_path / "base"))
    encoded: list[int] = []
    make = examples.batch_encoder

    def counting(plan: Plan) -> examples.EncodeBatch:
        encode = make(plan)

        def count(batch: Any) -> Any:
            encoded.append(len(batch))
            return encode(batch)

        return count

    monkeypatch.setattr(split, "batch_encoder", counting)
    # What the code is has a test of its own; nobody's edit while this one runs is to be seen.
    monkeypatch.setattr(cache_module, "code_files", list)
    # Chunks small enough that a test has some: about one row in 32 ends one.
    monkeypatch.setattr(chunks, "FEWEST", 8)
    monkeypatch.setattr(chunks, "BORDER", 32)
    monkeypatch.setattr(chunks, "MOST", 128)

    def go(train: list[Record] = TRAIN, name: str = "out", **changes: Any) -> int:
        encoded.clear()
        source = {"path": "base", "sha256": tokenizer_hash(tmp_path / "base")}
        settings = toy.encode_settings(tokenizer=source, base_text="none", **changes)
        prepared = toy.write_prepared(tmp_path / "prepared", train)
        encode_dataset(
            prepared, settings, root=tmp_path, folder=tmp_path / name, cache=tmp_path / "cache"
        )
        return sum(encoded)

    return go


def test_the_same_rows_again_are_not_encoded_and_give_the_same_bytes(
    run: Any, tmp_path: Path
) -> None:
    assert run(name="first") == len(TRAIN) + len(toy.DEV)
    assert run(name="second") == 0
    assert sha256_tree(tmp_path / "first") == sha256_tree(tmp_path / "second")


@pytest.mark.parametrize("place", [0, 300, 600])
def test_one_more_row_costs_the_chunk_that_it_is_in(run: Any, tmp_path: Path, place: int) -> None:
    run()
    more = [*TRAIN[:place], replace(TRAIN[0], id="new", body="第二场雪。"), *TRAIN[place:]]
    assert 0 < run(more, "with") <= 2 * chunks.MOST
    for entry in (tmp_path / "cache").rglob("*"):
        if entry.is_file():
            entry.unlink()
    assert run(more, "afresh") == len(more) + len(toy.DEV)
    assert sha256_tree(tmp_path / "with") == sha256_tree(tmp_path / "afresh")


def test_other_places_of_the_same_rows_are_no_other_rows(run: Any) -> None:
    run()
    assert run([replace(row, file="moved.jsonl", line=row.line + 5) for row in TRAIN]) == 0


def test_another_length_is_another_encoding(run: Any) -> None:
    run()
    assert run(max_prompt_tokens=63) == len(TRAIN) + len(toy.DEV)
    assert run(max_answer_tokens=15) == len(TRAIN) + len(toy.DEV)
    assert run() == 0


def test_another_tokenizer_file_is_another_encoding(run: Any, tmp_path: Path) -> None:
    run()
    file = tmp_path / "base" / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert run() == len(TRAIN) + len(toy.DEV)
    text = file.read_text(encoding="utf-8")
    assert r"\\p{Han}" in text
    file.write_text(text.replace(r"\\p{Han}", r"\\p{Greek}"), encoding="utf-8")
    assert run() == len(TRAIN) + len(toy.DEV)


def test_other_template_text_is_another_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.tokenizer().save_pretrained(str(tmp_path))
    before = _settings_hash(tmp_path)
    assert _settings_hash(tmp_path) == before
    changed = replace(TEMPLATES["context-target"], cue="!")
    monkeypatch.setitem(TEMPLATES, "context-target", changed)
    assert _settings_hash(tmp_path) != before


def test_other_code_or_another_library_is_another_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.tokenizer().save_pretrained(str(tmp_path))
    before = _settings_hash(tmp_path)
    monkeypatch.setattr(cache_module.metadata, "version", lambda name: "0.0.0")
    assert _settings_hash(tmp_path) != before
    monkeypatch.undo()
    code = cache_module.code_files()
    assert {"cache.py", "examples.py", "loading.py", "prompts.py"} <= {file.name for file in code}
    monkeypatch.setattr(cache_module, "code_files", lambda: code[1:])
    assert _settings_hash(tmp_path) != before


def test_an_entry_that_is_not_whole_is_never_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "settings")
    key = cache.key(b"rows")
    cache.put(key, b"ids of the rows")
    assert cache.get(key) == b"ids of the rows"
    [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
    whole = file.read_bytes()
    for broken in (whole[:-1], whole[:10], b"", whole[:-1] + b"?"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(broken)
        assert cache.get(key) is None
        assert not file.exists()
    assert cache.get(cache.key(b"other rows")) is None


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "", limit=3 * (100 + 32))  # a hash of 32 bytes stands before each
    for age, name in enumerate((b"a", b"b", b"c", b"d")):
        cache.put(cache.key(name), name * 100)
        [file] = list(tmp_path.rglob(cache.key(name)[2:]))
        os.utime(file, ns=(age, age))
    assert cache.get(cache.key(b"a"))  # which makes it the newest
    cache.prune()
    left = [name for name in (b"a", b"b", b"c", b"d") if cache.get(cache.key(name))]
    assert left == [b"a", b"c", b"d"]
