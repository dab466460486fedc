"""The contract a checkpoint carries: template, special tokens, stop tokens, truncation rule.

One object, one hash. ``encode`` writes it beside the tokens, ``train`` into the checkpoint, and
``evaluate`` and ``serve`` refuse a checkpoint whose contract is not the one they were given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    # Everything before <sop> is seen from both sides: prompt [gMASK] <sop> answer <eop>
    "chatglm": TokenLayout((), ("[gMASK]", "<sop>"), "<eop>"),
    # [gMASK] sop prompt answer </s>
    "chatglm2": TokenLayout(("[gMASK]", "sop"), (), "</s>"),
    "chatglm3": TokenLayout(("[gMASK]", "sop"), (), "</s>"),
    # A plain left-to-right model: prompt answer <|endoftext|>
    "gpt": TokenLayout((), (), "<|endoftext|>"),
}


class Contract(BaseModel):
    """Everything that must be the same when a checkpoint is trained, scored and served."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    templates: dict[str, str]
    """Names of the prompt templates, and the hash of what each says."""
    family: str
    before: tuple[str, ...]
    between: tuple[str, ...]
    end: str
    stop: tuple[str, ...]
    max_prompt_tokens: int
    max_answer_tokens: int
    truncation: Literal["oldest-turns-then-body-end"] = "oldest-turns-then-body-end"

    def prompt(self, fields: Mapping[str, object], template: str | None = None) -> Prompt:
        """The prompt of one row; ``template`` says which, where the contract has several."""
        if template is None and len(self.templates) > 1:
            raise InputError(
                "template",
                "this model was trained on several",
                got="none named",
                do=f"Name one of {', '.join(self.templates)}.",
            )
        name = template or next(iter(self.templates))
        lookup(self.templates, name, "template")
        return TEMPLATES[name].prompt(fields)

    def __hash__(self) -> int:
        return hash(self.hash())

    def hash(self) -> str:
        return sha256_json(self.model_dump(mode="json"))

    def save(self, folder: Path) -> None:
        write_json(folder / "contract.json", self.model_dump(mode="json"))


def contract_for(
    templates: Iterable[str], family: str, *, max_prompt_tokens: int, max_answer_tokens: int
) -> Contract:
    """The contract of templates on a model family, with that family's special tokens."""
    hashes = {
        name: lookup(TEMPLATES, name, "contract template").hash() for name in sorted(templates)
    }
    layout = lookup(LAYOUTS, family, "encode.family")
    return Contract(
        templates=hashes,
        family=family,
        before=layout.before,
        between=layout.between,
        end=layout.end,
        stop=(layout.end,),
        max_prompt_tokens=max_prompt_tokens,
        max_answer_tokens=max_answer_tokens,
    )


def load_contract(folder: Path) -> Contract:
    """The contract that ``save`` wrote.

    Raises:
        InputError: There is none, it is none, or it names a template that is not known here.
        IntegrityError: A template says something else today than when the contract was made.
    """
    path = folder / "contract.json"
    try:
        contract = Contract.model_validate(read_json(path))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise InputError(
            f"{path} {'.'.join(map(str, fault['loc']))}",
            f"not a contract ({fault['msg']})",
            do="Use a checkpoint that was made by a run of this version.",
        ) from None
    for name, its_hash in contract.templates.items():
        if name not in TEMPLATES:
            raise InputError(
                path,
                "unknown prompt template",
                got=name,
                do=f"Known: {', '.join(TEMPLATES)}. Use the glmops that made this checkpoint.",
            )
        if TEMPLATES[name].hash() != its_hash:
            raise IntegrityError(
                f"{path} / glmops/templates.py",
                f"the template {name} is not the one that the model was trained on ({its_hash})",
                got=TEMPLATES[name].hash(),
                do="Use the glmops that made this checkpoint, or train again.",
            )
    return contract


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
