"""Chats as ids, and answers as text: what the families' original ``chat()`` does around the model.

A message is ``{"role": …, "content": …}``; ChatGLM3 and GLM-4 also know ``metadata`` (a tool's
name), and ChatGLM3 ``tools`` on a system message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError, lookup
from glmops.models.tokenizers.prompts import special_ids, text_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Message = Mapping[str, Any]

ROLES = ("system", "user", "assistant", "observation")
STOP_TOKENS = {
    "chatglm": ("<eop>",),
    "chatglm2": ("</s>",),
    "chatglm3": ("</s>", "<|user|>", "<|observation|>"),
    "glm4": ("<|endoftext|>", "<|user|>", "<|observation|>"),
}
# The published code fills in when a model was trained.
_TRAINED_IN = ("[[训练时间]]", "2023年")
_HAN = r"[\u4e00-\u9fff]"


def chat_ids(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerFast, *, plain: bool = True
) -> list[int]:
    """The ids that the model is given before it answers the last message.

    Args:
        messages: In order; the last one is the user's (or an observation).
        plain: Control tokens that somebody typed stay plain text. False: as the original does,
            where a typed ``<eop>`` is a control token (ChatGLM-6B only: the other families'
            originals keep them plain too).
    Raises:
        InputError: The messages are not a chat that the family knows, or the tokenizer is of none
            of the families.
    """
    family = chat_family(tokenizer)
    if not messages:
        raise InputError("chat", "no messages", do="Give at least what the user says.")
    for place, message in enumerate(messages, 1):
        _require_message(message, f"chat message {place}")
    if family in ("chatglm", "chatglm2"):
        return _rounds_ids(messages, family, tokenizer, plain)
    return _roles_ids(messages, family, tokenizer)


def chat_family(tokenizer: PreTrainedTokenizerFast) -> str:
    """ "chatglm", "chatglm2", "chatglm3" or "glm4" (any tokenizer with GLM-4's control tokens)."""
    family = getattr(tokenizer, "family", None)
    if family in STOP_TOKENS:
        return str(family)
    if {"[gMASK]", "<sop>", "<|user|>", "<|assistant|>"} <= set(tokenizer.get_added_vocab()):
        return "glm4"
    raise InputError(
        "tokenizer",
        "no chat is known for it",
        got=type(tokenizer).__name__,
        do="Use a tokenizer of ChatGLM-6B, ChatGLM2, ChatGLM3 or GLM-4.",
    )


def stop_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids that end an answer in a chat."""
    return special_ids(STOP_TOKENS[chat_family(tokenizer)], tokenizer)


def prompt_text(messages: Sequence[Message], family: str) -> str:
    """The prompt of ChatGLM-6B or ChatGLM2, whose chats are one text.

    Raises:
        InputError: The roles are not user, assistant, user, …, user.
    """
    for place, message in enumerate(messages):
        expected = ("user", "assistant")[place % 2]
        if message["role"] != expected:
            raise InputError(
                f"chat message {place + 1}",
                f"the role must be {expected!r} there",
                got=message["role"],
                do="This family's chats are user and assistant in turn.",
            )
    if len(messages) % 2 == 0:
        raise InputError("chat", "the last message is the assistant's", do="Add the user's next.")
    contents = [str(message["content"]) for message in messages]
    if family == "chatglm" and len(contents) == 1:
        return contents[0]
    first, gap = (0, "\n") if family == "chatglm" else (1, "\n\n")
    rounds = [
        f"[Round {first + place // 2}]{gap}问：{contents[place]}{gap}答："
        + (f"{contents[place + 1]}{gap}" if place + 1 < len(contents) else "")
        for place in range(0, len(contents), 2)
    ]
    return "".join(rounds)


def _rounds_ids(
    messages: Sequence[Message], family: str, tokenizer: PreTrainedTokenizerFast, plain: bool
) -> list[int]:
    text = prompt_text(messages, family)
    if plain or family == "chatglm2":
        ids = text_ids(text, tokenizer)
    else:
        ids = list(tokenizer(text, add_special_tokens=False).input_ids)
    if family == "chatglm":
        return ids + special_ids(("[gMASK]", "<sop>"), tokenizer)
    return special_ids(("[gMASK]", "sop"), tokenizer) + ids


def _roles_ids(
    messages: Sequence[Message], family: str, tokenizer: PreTrainedTokenizerFast
) -> list[int]:
    if messages[-1]["role"] not in ("user", "observation"):
        raise InputError(
            f"chat message {len(messages)}",
            "the last message must be the user's or an observation",
            got=messages[-1]["role"],
            do="Add what the assistant should answer.",
        )
    ids = special_ids(("[gMASK]", "sop" if family == "chatglm3" else "<sop>"), tokenizer)
    for message in messages:
        content = message["content"]
        if tools := message.get("tools"):
            content += _tools_text(tools, message, family)
        ids += special_ids([f"<|{message['role']}|>"], tokenizer)
        # Each text on its own, as the original does: a token never reaches across.
        ids += text_ids(f"{message.get('metadata', '')}\n", tokenizer)
        ids += text_ids(content, tokenizer)
    return ids + special_ids(["<|assistant|>"], tokenizer)


def _tools_text(tools: Any, message: Message, family: str) -> str:
    if family != "chatglm3" or message["role"] != "system":
        raise InputError(
            "chat",
            "tools belong to a system message of ChatGLM3",
            got=f"{family}, {message['role']}",
            do="Describe them in a system message's content.",
        )
    return "\n" + json.dumps(tools, indent=4, ensure_ascii=False)


def _require_message(message: Message, where: str) -> None:
    for key in ("role", "content"):
        if not isinstance(message.get(key), str):
            raise InputError(where, f"{key} is no text", got=message.get(key), do="Give it.")
    if message["role"] not in ROLES:
        raise InputError(
            where, "unknown role", got=message["role"], do=f"Known: {', '.join(ROLES)}."
        )
    if not isinstance(message.get("metadata", ""), str):
        raise InputError(where, "metadata is no text", got=message["metadata"], do="Leave it out.")


def response_text(text: str, family: str) -> str:
    """What the user is shown of a decoded answer.

    ChatGLM-6B's tokenizer has only ASCII punctuation, so marks next to a Chinese character become
    full-width again. Of ChatGLM3's and GLM-4's answers it is the last part.
    """
    return lookup(_SHOWN, family, "family")(text)


def response_messages(text: str) -> list[dict[str, str]]:
    """A decoded answer of ChatGLM3 or GLM-4 as messages for the next turn.

    The model writes parts, each with a first line: empty, or the name of the tool that the rest of
    the part is for (``metadata``).
    """
    return list(_parts(text))


def _parts(text: str) -> Iterator[dict[str, str]]:
    for part in text.split("<|assistant|>"):
        metadata, found, content = part.partition("\n")
        if not found:
            metadata, content = "", part
        if not metadata.strip():
            content = content.strip()
        yield {"role": "assistant", "metadata": metadata, "content": content}


def _shown_chatglm(text: str) -> str:
    text = _shown_chatglm2(text)
    for ascii_mark, full_width in zip(",!:;?", "，！：；？", strict=True):
        mark = re.escape(ascii_mark)
        text = re.sub(f"({_HAN}){mark}", rf"\g<1>{full_width}", text)
        text = re.sub(f"{mark}({_HAN})", rf"{full_width}\g<1>", text)
    return text


def _shown_chatglm2(text: str) -> str:
    return text.strip().replace(*_TRAINED_IN)


def _shown_chatglm3(text: str) -> str:
    last = response_messages(text)[-1]
    return last["content"] if last["metadata"].strip() else last["content"].replace(*_TRAINED_IN)


def _shown_glm4(text: str) -> str:
    return response_messages(text)[-1]["content"]


_SHOWN = {
    "chatglm": _shown_chatglm,
    "chatglm2": _shown_chatglm2,
    "chatglm3": _shown_chatglm3,
    "glm4": _shown_glm4,
}
