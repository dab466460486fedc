"""What a workspace takes from the project's DVC: its cache, and the raw rows that DVC tracks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flows.faults import one_line
from flows.graph import ask, in_order
from glmops.errors import RecipeError

if TYPE_CHECKING:
    from dvc.repo import Repo


def share_cache(root: Path, workspace: Path) -> None:
    """Point the workspace's DVC at the project's cache, remotes and credentials.

    No git there (it would find the project's), and hard links where the disk has no cheaper ones:
    DVC makes what it links read-only, and stages write new files, so the cache stays as it is.
    """
    from dvc.config import Config

    cache = ask(root, lambda repo: repo.cache.legacy.path)
    mine = Config(str(root / ".dvc")).load_one("local")
    (workspace / ".dvc").mkdir(exist_ok=True)
    with Config(str(workspace / ".dvc")).edit("local") as theirs:
        theirs.clear()
        theirs.update(mine)
        theirs.setdefault("core", {})["no_scm"] = True
        theirs.setdefault("cache", {}).update(dir=cache, type="reflink,hardlink,copy")


def checkout_sources(workspace: Path, name: str) -> None:
    """Bring the raw rows that `dvc add` tracks into the workspace: they are not in git."""
    from dvc.exceptions import DvcException

    def question(repo: Repo) -> None:
        graph = repo.index.graph
        before = {up for stage, _ in in_order(repo, name) for up in graph.successors(stage)}
        sources = sorted(stage.addressing for stage in before if stage.is_data_source)
        if sources:
            repo.checkout(targets=sources)

    try:
        ask(workspace, question)
    except DvcException as error:
        raise RecipeError(
            "raw rows",
            f"DVC tracks them but has them not in its cache here ({one_line(error)})",
            do="Fetch them (`dvc pull`).",
        ) from error
