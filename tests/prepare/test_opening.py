"""A file's bytes: unpacked, in blocks of whole lines, whatever the length of one line."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from glmops.errors import InputError
from glmops.prepare import read
from glmops.prepare.raw import opening
from glmops.prepare.raw.files import RawFile
from glmops.prepare.raw.opening import Block, LongLine, blocks

ROW = '{"content": "类型#裤", "summary": "宽松"}\n'


def raw(path: Path, content: bytes) -> RawFile:
    path.write_bytes(content)
    return RawFile(path, path.name)


def zstandard(content: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(content, asbytes=True))


@pytest.mark.parametrize(
    "pack", [lambda data: data, lambda d: gzip.compress(d, mtime=0), zstandard]
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json.gz", "rows.jsonl.zst"])
def test_packing_is_known_by_the_content_and_changes_nothing(
    tmp_path: Path, pack, name: str
) -> None:
    path = raw(tmp_path / name, pack(("\ufeff" + ROW * 3).replace("\n", "\r\n").encode())).path
    records, refusals = read(path, "adgen")
    assert [(r.body, r.target, r.line) for r in records] == [
        ("类型#裤", "宽松", line) for line in (1, 2, 3)
    ]
    assert refusals == []


def test_gzip_and_zstandard_files_of_several_members_are_read_whole(tmp_path: Path) -> None:
    for pack in (gzip.compress, zstandard):
        path = raw(tmp_path / "rows.jsonl", pack(ROW.encode()) + pack(ROW.encode() * 2)).path
        assert len(read(path, "adgen")[0]) == 3


@pytest.mark.parametrize("pack", [gzip.compress, zstandard])
def test_packed_data_that_is_cut_short_is_an_error_with_the_files_name(
    tmp_path: Path, pack
) -> None:
    noise = random.Random(1).randbytes(200_000).hex()
    packed = pack(f'{{"content": "{noise}", "summary": "b"}}\n'.encode())
    path = raw(tmp_path / "rows.jsonl", packed[: len(packed) * 2 // 3]).path
    with pytest.raises(InputError, match=r"rows\.jsonl: the \w+ data is broken or cut short"):
        read(path, "adgen")


def pieces(content: bytes, tmp_path: Path) -> list[Block | LongLine]:
    return list(blocks(raw(tmp_path / "rows", content)))


def test_blocks_of_any_size_hold_every_line_once_with_its_number_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(3)
    for size in (1, 2, 3, 7, 64, 10_000):
        monkeypatch.setattr(opening, "BLOCK", size)
        for _ in range(40):
            lines = [b"x" * dice.choice((0, 0, 1, 2, 5, 20)) for _ in range(dice.randrange(1, 9))]
            content = b"\n".join(lines)
            found = pieces(content, tmp_path)
            # Everything is there, in order, and each block starts where it says.
            assert b"".join(block.data for block in found) == content
            for block in found:
                assert content[block.offset :].startswith(block.data)
                assert block.first == 1 + content[: block.offset].count(b"\n")
            assert [block.last for block in found] == [False] * (len(found) - 1) + [True] * (
                len(found) > 0
            )


def test_a_line_that_fills_a_block_is_passed_over_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BLOCK", 16)
    monkeypatch.setattr(opening, "LONGEST_LINE", 10)
    monkeypatch.setattr(opening, "KEPT", 4)
    dice = random.Random(5)
    for _ in range(200):
        lines = [b"%d" % n * dice.choice((1, 3, 40, 90)) for n in range(dice.randrange(1, 7))]
        content = b"\n".join(lines) + b"\n" * dice.randrange(2)
        found = pieces(content, tmp_path)
        sizes, numbers = 0, []
        for piece in found:
            if isinstance(piece, LongLine):
                line = lines[piece.number - 1]
                assert piece.start == line[:4]
                assert piece.size in (len(line), len(line) + 1)
                sizes += piece.size
                numbers.append(piece.number)
            else:
                assert content[piece.offset :].startswith(piece.data)
                sizes += len(piece.data)
                numbers += range(piece.first, piece.first + len(piece.data.splitlines()))
        assert sizes == len(content)
        assert numbers == list(range(1, len(lines) + 1))


def test_a_line_of_fifty_megabytes_is_one_refusal_and_is_never_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BLOCK", 1 << 20)
    monkeypatch.setattr(opening, "LONGEST_LINE", 1 << 18)
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.write(ROW)
        file.write('{"content": "')
        for _ in range(50):
            file.write("x" * (1 << 20))
        file.write('", "summary": "b"}\n')
        file.write(ROW)
    read(raw(tmp_path / "warm", ROW.encode()).path, "adgen")  # imports are no part of this
    tracemalloc.start()
    records, (refusal,) = read(path, "adgen")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [record.line for record in records] == [1, 3]
    assert refusal.line == 2
    # 50 MiB of x, and 13 + 19 characters around them (with the line feed).
    assert refusal.reason.startswith(f"the line is {50 * (1 << 20) + 13 + 19} bytes long")
    assert len(refusal.raw) < 10_000
    # A few blocks of one MiB, where the line has fifty.
    assert peak < 8 * opening.BLOCK


def test_a_line_of_ten_megabytes_is_refused_too(tmp_path: Path) -> None:
    long = '{"content": "' + "x" * (10 << 20) + '", "summary": "b"}\n'
    path = raw(tmp_path / "rows.jsonl", (ROW + long + ROW).encode()).path
    records, (refusal,) = read(path, "adgen")
    assert [record.line for record in records] == [1, 3]
    assert (refusal.line, refusal.reason[:12]) == (2, "the line is ")
    assert len(refusal.raw) < 10_000
