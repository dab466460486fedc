"""The encode section: model family and tokenizer, how long rows may be, how they are packed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from glmops.recipe.section import Positive, Section

Family = Literal["glm", "chatglm", "chatglm2", "chatglm3", "gpt"]
"""glm: GLM-4. Each has its own special tokens around a row (contract.LAYOUTS)."""


class TokenizerSource(Section):
    """``{train: byte-bpe, vocab_size: N}``: a byte-level BPE made from the train split; it has no
    unknown token. ``byte-bpe-words``: one whose tokens may hold several Chinese characters. Or
    ``{path: FOLDER, sha256: HASH}``: that of a base checkpoint, relative to the project. The hash
    of its files is named so that other files are another recipe."""

    train: Literal["byte-bpe", "byte-bpe-words"] | None = None
    vocab_size: Annotated[int, Field(ge=300, le=200_000)] | None = None
    path: Annotated[str, Field(min_length=1)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> TokenizerSource:
        if self.model_fields_set not in ({"train", "vocab_size"}, {"path", "sha256"}):
            raise ValueError(
                "needs either train and vocab_size, or path and sha256 (write 64 zeros, and the "
                f"stage says what belongs there), got {', '.join(sorted(self.model_fields_set))}"
            )
        return self


class Encode(Section):
    family: Family
    tokenizer: TokenizerSource
    max_prompt_tokens: Positive
    """The prompt with its special tokens. What is longer loses the end of its body."""
    max_answer_tokens: Positive
    """The answer with its end. What is longer is left out and listed: answers are never cut."""
    base_text: Literal["shuffled-targets", "none"]
    """What a base made from scratch learns from: the train rows with their answers dealt to other
    rows. none: there is a base already."""
    packing: Literal["none", "best-fit"] = "none"
    """best-fit: short train rows share one row of ``pack_tokens`` tokens; none of them is cut."""
    pack_tokens: Positive | None = None

    @model_validator(mode="after")
    def _a_pack_holds_every_row(self) -> Encode:
        if (self.packing == "none") != (self.pack_tokens is None):
            raise ValueError("packing: best-fit needs pack_tokens, and packing: none has none")
        longest = self.max_prompt_tokens + self.max_answer_tokens
        if self.pack_tokens is not None and self.pack_tokens < longest:
            raise ValueError(
                f"pack_tokens must hold the longest row, max_prompt_tokens + max_answer_tokens = "
                f"{longest}, got {self.pack_tokens}"
            )
        return self
