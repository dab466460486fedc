"""The token cache: encoded chunks by a key of everything that decides their ids.

An entry is written under another name and renamed, and carries the hash of its own content: one
that is cut short or altered is never used. Entries that were not asked for longest go first.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from glmops.encode.plan import Plan
from glmops.storage import sha256_file, sha256_json, sha256_tree

LIMIT = 4 * 2**30
"""Bytes that the entries of one project may have together."""

_LIBRARIES = ("tokenizers", "transformers", "pyarrow", "numpy")
_HASH = 32
_GLMOPS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Cache:
    """``settings`` is the hash of all that is not in a chunk: contract, tokenizer, code."""

    folder: Path
    settings: str
    limit: int = LIMIT

    def key(self, chunk: bytes) -> str:
        return hashlib.sha256(self.settings.encode() + chunk).hexdigest()

    def get(self, key: str) -> bytes | None:
        """What was stored under ``key``, whole and as it was, or None."""
        file = self._file(key)
        try:
            data = file.read_bytes()
            os.utime(file)
        except FileNotFoundError:
            return None
        if data[:_HASH] != hashlib.sha256(data[_HASH:]).digest():
            file.unlink(missing_ok=True)
            return None
        return data[_HASH:]

    def put(self, key: str, value: bytes) -> None:
        file = self._file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=self.folder, prefix=".draft.")
        try:
            with os.fdopen(handle, "wb") as sink:
                sink.write(hashlib.sha256(value).digest())
                sink.write(value)
            os.replace(draft, file)
        except BaseException:
            os.unlink(draft)
            raise

    def prune(self) -> None:
        """Remove the entries that were not used for longest until the rest fits the limit."""
        found = []
        for file in self.folder.rglob("*"):
            try:
                status = file.stat()
            except FileNotFoundError:  # another run is pruning too
                continue
            if file.is_file():
                found.append((status.st_mtime_ns, status.st_size, file))
        total = sum(size for _, size, _ in found)
        for _, size, file in sorted(found):
            if total <= self.limit:
                return
            file.unlink(missing_ok=True)
            total -= size

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]


def settings_hash(plan: Plan) -> str:
    """Everything but the rows that decides ids: the contract, the tokenizer's files, the code."""
    return sha256_json(
        {
            "contract": plan.contract.hash(),
            "tokenizer": sha256_tree(plan.folder),
            "rules": plan.rules,
            "code": {str(file.relative_to(_GLMOPS)): sha256_file(file) for file in code_files()},
            "libraries": {name: metadata.version(name) for name in _LIBRARIES},
        }
    )


def code_files() -> list[Path]:
    """The modules that make ids of texts."""
    return sorted([*_GLMOPS.glob("encode/*.py"), *_GLMOPS.glob("models/tokenizers/*.py")])
