"""Which files hold the raw rows: one file, a folder or a glob, and the links that may be followed.

A link that the user names is theirs to name. A link *inside* a raw folder that leaves it is
refused: rows would come from a place that nobody named and that DVC does not watch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from glmops.errors import InputError, RecipeError
from glmops.prepare.formats import JSON
from glmops.storage import project_root, sha256_file, sha256_json

COMPRESSED = (".gz", ".zst")
# DVC may put a link in place of a file, to where it keeps the content under its hash.
_DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file of raw rows. ``shown`` is its name in records and messages."""

    path: Path
    shown: str

    @property
    def suffix(self) -> str:
        """How the name ends, without the ending of a compressed file."""
        return _suffix(self.path)


def raw_files(
    path: Path,
    root: Path | None = None,
    *,
    pattern: str = "",
    suffixes: Sequence[str] = JSON,
) -> list[RawFile]:
    """The file ``path``, or the files below the folder ``path``, in sorted order.

    A path that is not there and holds ``*``, ``?`` or ``[`` is a glob. Hidden files and folders
    are not looked at. The only file of a folder is taken whatever its name: `--raw` makes a folder
    around a link to the user's file.

    Args:
        root: Names below it are shown relative to it; the project around here when None.
        pattern: Of a folder, only the files that match this glob, whatever their names' endings.
        suffixes: Of a folder without a pattern, the endings that count (also with .gz or .zst).
    Raises:
        InputError: Nothing is there, a link leads nowhere, in a circle or out of the folder, or a
            folder has no such file.
    """
    path = Path(path)
    root = root or _project_here()
    if not path.exists():
        if globbed := _fixed_part(path):
            return raw_files(globbed[0], root, pattern=globbed[1])
        what = "a link to nothing" if path.is_symlink() else "no such file or folder"
        raise InputError(path, what, do="Correct the path.")
    if not path.is_dir():
        if pattern:
            what = "a single file, of which no part can be chosen by a glob"
            raise InputError(shown(path, root), what, got=pattern, do="Leave `files` out.")
        return [RawFile(path, shown(path, root))]
    found = sorted(_below(path, path, root, ()), key=lambda file: _relative(file, path))
    if pattern:
        files = [file for file in found if _matches(_relative(file, path), pattern)]
        wanted = f"file that matches {pattern!r}"
    else:
        files = [file for file in found if _suffix(file) in suffixes]
        files, wanted = (found if len(found) == 1 else files), f"{' or '.join(suffixes)} file"
    if not files:
        raise InputError(
            shown(path, root),
            f"no {wanted} in this folder",
            got=", ".join(_relative(file, path) for file in found) or "an empty folder",
            do="Name a file, or a folder that holds such files.",
        )
    return [RawFile(file, shown(file, root)) for file in files]


def hash_of(path: Path, files: Iterable[RawFile]) -> str:
    """One hash over the raw files' bytes and their names below ``path`` (a file's own is ".")."""
    return sha256_json({_relative(file.path, path): sha256_file(file.path) for file in files})


def shown(path: Path, root: Path | None) -> str:
    """A path's name in messages and records: relative to the project when below it.

    Links are not resolved: the name that the project uses is the one that people know.
    """
    absolute = Path(os.path.abspath(path))
    if root is not None and absolute.is_relative_to(root):
        return absolute.relative_to(root).as_posix()
    return path.as_posix()


def _below(folder: Path, top: Path, root: Path | None, above: tuple[Path, ...]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        raise InputError(folder, "this link leads back to a folder above it", do="Remove the link.")
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            _require_inside(entry, top, root)
        if entry.is_dir():
            yield from _below(entry, top, root, (*above, real))
        else:
            yield entry


def _require_inside(link: Path, top: Path, root: Path | None) -> None:
    """Refuse a link that leaves the folder ``top``, unless this project put it there."""
    if not link.exists():
        # A file of rows must not vanish in silence.
        raise InputError(shown(link, root), "a link to nothing", do="Mend or remove the link.")
    target = link.resolve()
    if target.is_relative_to(top.resolve()) or _DVC_CACHE.search(target.as_posix()):
        return
    if root is not None and Path(os.path.abspath(top)).parent == root / "data" / "raw":
        entries = [entry for entry in top.iterdir() if not entry.name.startswith(".")]
        if entries == [link] and not link.is_dir():  # what `--raw FILE` made
            return
    raise InputError(
        shown(link, root),
        "this link leaves the raw folder",
        got=str(target),
        do="Name that place itself as the raw path, or copy its rows into the folder.",
    )


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _matches(name: str, pattern: str) -> bool:
    """``*`` and ``?`` stay inside one folder, ``**`` is any number of folders."""
    if pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
        raise RecipeError("files", "not below the raw path", got=pattern, do="Name a part of it.")
    return re.fullmatch(_expression(pattern), name) is not None


def _expression(pattern: str) -> str:
    parts = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[!?[^\]/]+\]|.", pattern, flags=re.DOTALL)
    return "".join(
        parts.get(token) or (token.replace("[!", "[^") if len(token) > 1 else re.escape(token))
        for token in tokens
    )


def _fixed_part(path: Path) -> tuple[Path, str] | None:
    """The folder that a glob starts from and the rest of it; None for a path that is no glob."""
    parts = path.parts
    wild = next((place for place, part in enumerate(parts) if re.search(r"[*?\[]", part)), None)
    if wild is None:
        return None
    folder = Path(*parts[:wild]) if wild else Path(".")
    return (folder, "/".join(parts[wild:])) if folder.is_dir() else None


def _project_here() -> Path | None:
    try:
        return project_root()
    except InputError:
        return None
