"""Tokenizers of the GLM family, and the one function that turns a prompt into ids.

No torch here: ``encode`` loads this package and nothing else of ``glmops.models``. transformers
loads with the first tokenizer.
"""

from __future__ import annotations

from glmops.models.tokenizers.chat import (
    chat_ids,
    response_messages,
    response_text,
    stop_ids,
)
from glmops.models.tokenizers.loading import load_tokenizer
from glmops.models.tokenizers.prompts import (
    PlacedPrompt,
    place_prompt,
    prompt_ids,
    special_ids,
    text_ids,
)
from glmops.models.tokenizers.trained import PAD, SPECIAL_TOKENS, train_tokenizer

__all__ = [
    "PAD",
    "SPECIAL_TOKENS",
    "PlacedPrompt",
    "chat_ids",
    "load_tokenizer",
    "place_prompt",
    "prompt_ids",
    "response_messages",
    "response_text",
    "special_ids",
    "stop_ids",
    "text_ids",
    "train_tokenizer",
]
