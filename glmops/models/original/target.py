"""The folder an import shall go to: free, the very same import, or something else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmops.errors import InputError, IntegrityError
from glmops.storage import read_json, sha256_file

MANIFEST = "import.json"
_ELSEWHERE = "Give a target folder that does not exist yet."


def require_place(source: Path, target: Path, identity: Mapping[str, Any]) -> None:
    """Refuse a target that cannot be meant, before gigabytes are hashed.

    Args:
        identity: What the import will say of itself, as far as it is known without the hashes.
    Raises:
        InputError: The target is the source or in it, is a file, or holds something else.
    """
    here, there = source.resolve(), target.resolve()
    if there == here or here in there.parents:
        raise InputError(target, "is the source, or inside it", do=_ELSEWHERE)
    if target.is_file():
        raise InputError(target, "is a file", do=_ELSEWHERE)
    if manifest := _manifest(target):
        _require_same(target, manifest, identity)


def holds(target: Path, identity: Mapping[str, Any]) -> bool:
    """Whether ``target`` is this very import, whole.

    Raises:
        InputError: It holds something else.
        IntegrityError: It is this import, and a file of it is gone or was changed.
    """
    manifest = _manifest(target)
    if manifest is None:
        return False
    _require_same(target, manifest, identity)
    for name, entry in manifest["output"].items():
        if not (target / name).is_file() or sha256_file(target / name) != entry["sha256"]:
            raise IntegrityError(
                target / name,
                "is not what the import wrote",
                do=f"Remove {target} and import again.",
            )
    return True


def _manifest(target: Path) -> dict[str, Any] | None:
    """The manifest of an earlier import; None for a place that is free."""
    if not target.exists() or not any(target.iterdir()):
        return None
    if not (target / MANIFEST).is_file():
        raise InputError(target, f"holds something else (no {MANIFEST})", do=_ELSEWHERE)
    manifest = read_json(target / MANIFEST)
    if not isinstance(manifest, dict) or not {"source", "output"} <= manifest.keys():
        raise InputError(target / MANIFEST, "not a manifest of an import", do=_ELSEWHERE)
    return manifest


def _require_same(target: Path, manifest: dict[str, Any], identity: Mapping[str, Any]) -> None:
    for key, value in identity.items():
        if manifest.get(key) == value:
            continue
        what = f"holds another import, whose {key} is {manifest.get(key)!r}"
        if key == "source":
            theirs, ours = manifest["source"], value
            names = sorted(theirs.keys() | ours.keys())
            name = next(each for each in names if theirs.get(each) != ours.get(each))
            what, value = "holds the import of another checkpoint", f"a different {name}"
        raise InputError(target, what, got=value, do=_ELSEWHERE)
