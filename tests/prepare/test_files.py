"""Which files are read: one, a folder or a glob; and which links may be followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmops.errors import InputError, RecipeError
from glmops.prepare.raw.files import hash_of, raw_files
from glmops.storage import link_raw

ROW = '{"context": "问", "target": "答"}'


def put(path: Path, content: str = ROW) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def names(folder: Path, **settings: str) -> list[str]:
    return [file.path.relative_to(folder).as_posix() for file in raw_files(folder, **settings)]


def refused(path: Path, root: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        raw_files(path, root)
    return str(caught.value)


def test_what_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "gone.jsonl")
    assert "no such file or folder" in refused(tmp_path / "none.jsonl")
    assert "a link to nothing" in refused(tmp_path / "link.jsonl")
    # Inside a folder, too: a row file must not vanish in silence.
    assert "a link to nothing" in refused(tmp_path)


def test_a_folder_without_rows_says_what_it_holds(tmp_path: Path) -> None:
    assert "got 'an empty folder'" in refused(tmp_path)
    put(tmp_path / "a.csv", "x,y\n")
    put(tmp_path / "b.txt", "x\n")
    assert "no .jsonl or .json file in this folder, got 'a.csv, b.txt'" in refused(tmp_path)


def test_a_folder_is_read_in_sorted_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/2.JSON", "a/1.jsonl", ".hidden.jsonl", ".git/x.jsonl", "notes.md"):
        put(tmp_path / name)
    assert names(tmp_path) == ["a/1.jsonl", "a/2.JSON", "b.jsonl"]


def test_packed_files_count_by_the_ending_below_the_packing(tmp_path: Path) -> None:
    for name in ("a.json.gz", "b.jsonl.zst", "c.txt.gz", "d.gz"):
        put(tmp_path / name)
    assert names(tmp_path) == ["a.json.gz", "b.jsonl.zst"]
    assert [file.suffix for file in raw_files(tmp_path)] == [".json", ".jsonl"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.txt", ["a.txt"]),
        ("**/*.txt", ["a.txt", "x/b.txt", "x/y/c.txt"]),
        ("x/*.txt", ["x/b.txt"]),
        ("x/**", ["x/b.json", "x/b.txt", "x/y/c.txt"]),
        ("?.txt", ["a.txt"]),
        ("x/[a-b].[!j]*", ["x/b.txt"]),
        ("a.txt", ["a.txt"]),
    ],
)
def test_a_glob_chooses_whatever_the_endings(
    tmp_path: Path, pattern: str, found: list[str]
) -> None:
    for name in ("a.txt", "x/b.txt", "x/b.json", "x/y/c.txt", ".hidden/a.txt"):
        put(tmp_path / name)
    assert names(tmp_path, pattern=pattern) == found
    # The same glob as a path, which the shell did not expand.
    if pattern != "a.txt":
        assert [file.path for file in raw_files(tmp_path / pattern)] == [
            tmp_path / name for name in found
        ]


def test_a_glob_that_finds_nothing_says_what_there_is(tmp_path: Path) -> None:
    put(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"no file that matches '\*\.csv' .* got 'a\.txt'"):
        raw_files(tmp_path, pattern="*.csv")
    with pytest.raises(InputError, match="no such file or folder"):
        raw_files(tmp_path / "none" / "*.txt")


@pytest.mark.parametrize("pattern", ["../*.txt", "/etc/*", "x/../../*"])
def test_a_glob_stays_below_the_raw_path(tmp_path: Path, pattern: str) -> None:
    put(tmp_path / "raw" / "a.txt")
    with pytest.raises(RecipeError, match="not below the raw path"):
        raw_files(tmp_path / "raw", pattern=pattern)


def test_the_only_file_of_a_folder_is_taken_whatever_its_name(tmp_path: Path) -> None:
    put(tmp_path / "raw" / "rows.weird")
    assert names(tmp_path / "raw") == ["rows.weird"]


def test_a_link_that_leaves_a_raw_folder_is_refused(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside" / "deep" / "z.jsonl").parents[1]
    folder = tmp_path / "raw"
    put(folder / "a.jsonl")
    (folder / "b.jsonl").symlink_to(outside / "deep" / "z.jsonl")
    message = refused(folder)
    assert f"{folder}/b.jsonl: this link leaves the raw folder" in message
    assert str(outside / "deep" / "z.jsonl") in message
    (folder / "b.jsonl").unlink()
    (folder / "c").symlink_to(outside)
    assert "c: this link leaves the raw folder" in refused(folder)


def test_a_link_that_stays_inside_is_followed_and_one_that_is_named_too(tmp_path: Path) -> None:
    put(tmp_path / "raw" / "a.jsonl")
    (tmp_path / "raw" / "b.jsonl").symlink_to(tmp_path / "raw" / "a.jsonl")
    (tmp_path / "named").symlink_to(tmp_path / "raw")
    assert names(tmp_path / "named") == ["a.jsonl", "b.jsonl"]


def test_the_link_that_raw_makes_is_followed_and_no_other_like_it(tmp_path: Path) -> None:
    rows = put(tmp_path / "mine" / "rows.txt")
    root = tmp_path / "project"
    made = root / link_raw(root, "demo", rows)
    assert [file.path.name for file in raw_files(made, root)] == ["rows.txt"]
    # The same folder elsewhere, and the same link with company.
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "rows.txt").symlink_to(rows)
    assert "leaves the raw folder" in refused(tmp_path / "raw", root)
    put(made / "more.txt")
    assert "leaves the raw folder" in refused(made, root)


def test_the_links_of_a_dvc_cache_are_followed(tmp_path: Path) -> None:
    kept = put(tmp_path / "cache" / "files" / "md5" / "ab" / ("0" * 30))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.jsonl").symlink_to(kept)
    assert names(tmp_path / "raw") == ["a.jsonl"]


def test_a_link_in_a_circle_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "raw" / "a.jsonl")
    (tmp_path / "raw" / "again").symlink_to(tmp_path / "raw")
    assert "leads back to a folder above it" in refused(tmp_path / "raw")


def test_names_are_relative_to_the_project_and_else_as_given(tmp_path: Path) -> None:
    inside = put(tmp_path / "project" / "data" / "a.jsonl")
    outside = put(tmp_path / "b.jsonl")
    root = tmp_path / "project"
    assert [file.shown for file in raw_files(inside, root)] == ["data/a.jsonl"]
    assert [file.shown for file in raw_files(inside.parent, root)] == ["data/a.jsonl"]
    assert [file.shown for file in raw_files(outside, root)] == [str(outside)]


def test_the_raw_hash_follows_bytes_and_names_and_nothing_else(tmp_path: Path) -> None:
    def hashed(name: str, rows: dict[str, str]) -> str:
        for place, content in rows.items():
            put(tmp_path / name / place, content)
        return hash_of(tmp_path / name, raw_files(tmp_path / name))

    first = hashed("one", {"a.jsonl": "1", "b.jsonl": "2"})
    assert first == hashed("elsewhere", {"b.jsonl": "2", "a.jsonl": "1"})
    assert first != hashed("changed", {"a.jsonl": "1", "b.jsonl": "3"})
    assert first != hashed("renamed", {"a.jsonl": "1", "c.jsonl": "2"})
