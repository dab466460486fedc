"""The tokenizers of ChatGLM2-6B and ChatGLM3-6B as fast ones, built from ``tokenizer.model``.

BPE with byte fallback and no normalisation, so Rust is exact for every string. The control tokens
stand behind the file's own pieces: ``[MASK] [gMASK] [sMASK] sop eop``, and in ChatGLM3 the four
roles. A row is ``[gMASK] sop`` and then the text; a pair ends with ``</s>``.

Text never becomes a control token. ``encode_special_tokens=True`` (ChatGLM3) makes an exception for
the four roles, as the original does; ``split_special_tokens=True`` in a call takes it back.
"""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from glmops.errors import InputError
from glmops.models.tokenizers.charsmap import SPACE
from glmops.models.tokenizers.chat_templates import CHAT_TEMPLATES
from glmops.models.tokenizers.decoding import Surfaces
from glmops.models.tokenizers.model_file import Kind, SentencePieceModel
from glmops.models.tokenizers.original import OriginalTokenizer

CHATGLM2, CHATGLM3 = "chatglm2", "chatglm3"
MASKS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")


class ChatGLM2FastTokenizer(OriginalTokenizer):
    """See the module. ``family`` is "chatglm2" or "chatglm3"."""

    def __init__(self, *args: Any, family: str = CHATGLM2, **kwargs: Any) -> None:
        self.family = family
        super().__init__(*args, family=family, **kwargs)
        # ChatGLM2 decodes control tokens to nothing, ChatGLM3 to their names.
        hidden = self.control_tokens if family == CHATGLM2 else ("<unk>", "<s>", "</s>")
        self._surfaces = Surfaces(self._tokenizer, hidden=hidden, strip_all=False)


def chatglm2_tokenizer(
    model: SentencePieceModel,
    where: object,
    *,
    family: str,
    encode_special_tokens: bool = False,
) -> ChatGLM2FastTokenizer:
    """The tokenizer of a model that was read from ``tokenizer.model``.

    Args:
        where: Names the file in an error.
        family: "chatglm2" or "chatglm3".
        encode_special_tokens: The names of ChatGLM3's roles in a text become control tokens.
    Raises:
        InputError: The model is not of these families' kind.
    """
    _require_chatglm2(model, where)
    control = (*MASKS, *(ROLES if family == CHATGLM3 else ()))
    ids = {piece.text: index for index, piece in enumerate(model.pieces)}
    ids |= {token: len(model.pieces) + place for place, token in enumerate(control)}
    tokenizer = Tokenizer(
        models.BPE(ids, _merges(model, ids), unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[gMASK] sop $A",
        pair="[gMASK] sop $A $B </s>",
        special_tokens=[(token, ids[token]) for token in ("[gMASK]", "sop", "</s>")],
    )
    tokenizer.decoder = decoders.Sequence(  # for other programs; ours decodes in ``decoding``
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    if family == CHATGLM3:
        tokenizer.add_special_tokens(
            [AddedToken(token, normalized=False, special=True) for token in ROLES]
        )
    return ChatGLM2FastTokenizer(
        tokenizer_object=tokenizer,
        family=family,
        control_tokens=(*model.texts(Kind.UNKNOWN, Kind.CONTROL), *control),
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        padding_side="left",
        split_special_tokens=not encode_special_tokens,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATES[family],
    )


def _merges(model: SentencePieceModel, ids: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to join two pieces into a third, the best-scored results first."""
    usable = {piece.text for piece in model.pieces if piece.kind == Kind.NORMAL}
    merges = [
        (-piece.score, ids[piece.text], place, (piece.text[:place], piece.text[place:]))
        for piece in model.pieces
        if piece.kind == Kind.NORMAL
        for place in range(1, len(piece.text))
        if piece.text[:place] in usable and piece.text[place:] in usable
    ]
    return [pair for *_, pair in sorted(merges)]


def _require_chatglm2(model: SentencePieceModel, where: object) -> None:
    taken = {*MASKS, *ROLES} & {piece.text for piece in model.pieces}
    wanted = {
        "an algorithm other than BPE": model.algorithm == "bpe",
        "a normalisation table": not model.charsmap,
        "spaces that are collapsed": not model.remove_extra_whitespaces,
        "no dummy space in front": model.add_dummy_prefix,
        "pieces that are switched off or written by hand": not model.texts(
            Kind.UNUSED, Kind.USER_DEFINED
        ),
        f"a piece of text named like a control token ({', '.join(sorted(taken))})": not taken,
        "no <unk>, <s> or </s>": {"<unk>", "<s>", "</s>"}
        <= set(model.texts(Kind.UNKNOWN, Kind.CONTROL)),
    }
    for fault, right in wanted.items():
        if not right:
            raise InputError(
                where,
                f"not the vocabulary of ChatGLM2-6B or ChatGLM3-6B: it has {fault}",
                do="Use the tokenizer.model that was published with the checkpoint.",
            )
