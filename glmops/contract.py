"""The contract a checkpoint carries: template, special tokens, stop tokens, truncation rule.

One object, one hash. ``encode`` writes it beside the tokens, ``train`` into the checkpoint, and
``evaluate`` and ``serve`` refuse a checkpoint whose contract is not the one they were given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from glmops.errors import InputError, IntegrityError, lookup
from glmops.storage import read_json, sha256_json, write_json
from glmops.templates import TEMPLATES, Prompt


class TokenLayout(NamedTuple):
    """A family's special tokens around a row: ``before`` prompt ``between`` answer ``end``."""

    before: tuple[str, ...]
    between: tuple[str, ...]
    end: str


LAYOUTS: dict[str, TokenLayout] = {
    # GLM-4 base rows without chat roles: [gMASK] <sop> prompt answer <|endoftext|>
    "glm": TokenLayout(("[gMASK]", "<sop>"), (), "<|endoftext|>"),
}


class Contract(BaseModel):
    """Everything that must be the same when a checkpoint is trained, scored and served."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str
    family: str
    before: tuple[str, ...]
    between: tuple[str, ...]
    end: str
    stop: tuple[str, ...]
    max_prompt_tokens: int
    max_answer_tokens: int
    truncation: Literal["cut-body-end"] = "cut-body-end"

    def prompt(self, fields: Mapping[str, str]) -> Prompt:
        return lookup(TEMPLATES, self.template, "contract template").prompt(fields)

    def hash(self) -> str:
        return sha256_json(self.model_dump(mode="json"))

    def save(self, folder: Path) -> None:
        write_json(folder / "contract.json", self.model_dump(mode="json"))


def contract_for(
    template: str, family: str, *, max_prompt_tokens: int, max_answer_tokens: int
) -> Contract:
    """The contract of a template on a model family, with that family's special tokens."""
    lookup(TEMPLATES, template, "contract template")
    layout = lookup(LAYOUTS, family, "encode.family")
    return Contract(
        template=template,
        family=family,
        before=layout.before,
        between=layout.between,
        end=layout.end,
        stop=(layout.end,),
        max_prompt_tokens=max_prompt_tokens,
        max_answer_tokens=max_answer_tokens,
    )


def load_contract(folder: Path) -> Contract:
    path = folder / "contract.json"
    try:
        return Contract.model_validate(read_json(path))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise InputError(
            f"{path} {'.'.join(map(str, fault['loc']))}",
            f"not a contract ({fault['msg']})",
            do="Use a checkpoint that was made by a run of this version.",
        ) from None


def require_same(mine: Contract, theirs: Contract, *, my_name: str, their_name: str) -> None:
    """Refuse to go on when two sides disagree, naming both and the fields that differ."""
    if mine == theirs:
        return
    a, b = mine.model_dump(mode="json"), theirs.model_dump(mode="json")
    differing = ", ".join(f"{key} ({a[key]!r} / {b[key]!r})" for key in a if a[key] != b[key])
    raise IntegrityError(
        f"{my_name} / {their_name}",
        f"the two carry different contracts: {differing}",
        do="Use a checkpoint and data that were made by the same run.",
    )
