"""What is found out about a source besides its rows: files, line ends, lengths, what is strange.

None of it decides anything, so it is looked for in threads of its own while the next rows are read.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.prepare.gate.facts import oddities, text_fields
from glmops.storage import sha256_file

if TYPE_CHECKING:
    import polars as pl

    from glmops.prepare.raw.endings import Endings
    from glmops.prepare.raw.files import RawFile
    from glmops.prepare.rows import Batch

Tell = Callable[[str], None]
WAITING = 2
"""Batches that may wait to be looked at: they are in memory."""


@dataclass(slots=True)
class SourceSeen:
    """What was found out about one source while it was read."""

    encodings: dict[str, str] = field(default_factory=dict)
    """File, as shown → utf-8, gb18030 or parquet."""
    unread: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """File → the columns that nobody asked for, where there are some."""
    paths: dict[str, Path] = field(default_factory=dict)
    rows_of_file: Counter[str] = field(default_factory=Counter)
    sha256: dict[str, str] = field(default_factory=dict)
    endings: dict[str, Endings] = field(default_factory=dict)
    """Of files of text."""
    longest: dict[str, int] = field(default_factory=dict)
    """Field → the most characters that an accepted row has in it."""
    read: int = 0
    oddities: Counter[str] = field(default_factory=Counter)

    def hash_of_name(self, path: Path) -> dict[str, str]:
        """Each file's hash under its name below the raw path; a single file's name is "."."""
        return {
            (file.relative_to(path) if file.is_relative_to(path) else file).as_posix(): digest
            for file, digest in zip(self.paths.values(), self.sha256.values(), strict=True)
        }


@dataclass(frozen=True, slots=True)
class Looks:
    """Takes files and batches in the order in which they are read."""

    seen: SourceSeen
    tell: Tell
    batches: ThreadPoolExecutor
    files: ThreadPoolExecutor
    waiting: deque[Future[None]] = field(default_factory=deque)
    opened: dict[str, Future[tuple[str, Endings | None]]] = field(default_factory=dict)

    def at_file(self, opened: Any) -> None:
        """``opened``: what the reader knows of a file before its first batch."""
        file: RawFile = opened.file
        self.tell(f"reading {file.shown}")
        self.seen.encodings[file.shown] = opened.encoding
        self.seen.paths[file.shown] = file.path
        if opened.unread:
            self.seen.unread[file.shown] = opened.unread
        text = opened.encoding != "parquet"
        self.opened[file.shown] = self.files.submit(_whole_file, file, text)

    def at_batch(self, batch: Batch) -> None:
        self.seen.read += batch.read
        self.waiting.append(self.batches.submit(_look_at, self.seen, batch))
        if len(self.waiting) > WAITING:
            self.waiting.popleft().result()

    def finish(self) -> None:
        """Wait for all of it; raises what a look raised."""
        for look in self.waiting:
            look.result()
        for name, file in self.opened.items():
            self.seen.sha256[name], endings = file.result()
            if endings is not None:
                self.seen.endings[name] = endings


@contextmanager
def looking(tell: Tell) -> Iterator[Looks]:
    """Looks at one source; ``seen`` is whole when the block has ended."""
    with ThreadPoolExecutor(1) as batches, ThreadPoolExecutor(1) as files:
        looks = Looks(SourceSeen(), tell, batches, files)
        yield looks
        looks.finish()


def _whole_file(file: RawFile, text: bool) -> tuple[str, Endings | None]:
    from glmops.prepare.raw.endings import endings_of

    return sha256_file(file.path), endings_of(file) if text else None


def _look_at(seen: SourceSeen, batch: Batch) -> None:
    for frame in (batch.rows, batch.refusals):
        for file, rows in frame.group_by("file").len().iter_rows():
            seen.rows_of_file[file] += rows
    seen.oddities.update(_repairs(batch.raw))
    if batch.rows.height:
        seen.oddities.update(oddities(batch.raw))
        _note_longest(seen, batch.raw)


def _note_longest(seen: SourceSeen, raw: pl.DataFrame) -> None:
    import polars as pl

    longest = raw.select(pl.col(text_fields(raw)).str.len_chars().max())
    for name, most in longest.row(0, named=True).items():
        seen.longest[name] = max(seen.longest.get(name, 0), most or 0)


def _repairs(raw: pl.DataFrame) -> dict[str, int]:
    mended = raw.filter(raw["repair"].is_not_null())
    return dict(mended.group_by("repair").len().iter_rows())
