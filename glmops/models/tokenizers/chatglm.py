"""ChatGLM-6B's tokenizer as a fast one, built from ``ice_text.model``.

Unigram with byte fallback. Before SentencePiece, line breaks become ``<n>``, tabs ``<|tab|>`` and
runs of 2 to 80 spaces ``<|blank_k|>``; SentencePiece then normalises (full width becomes ASCII,
spaces collapse). A row is the text and then ``[gMASK] <sop>``.

Only ``<sop> <eop> <unk> <pad> [MASK]`` typed in a text become control tokens, and white space next
to them goes, as in the original; ``split_special_tokens=True`` keeps them plain text.

Equal to the original on every string of the reference, and to the SentencePiece library (0.2.3) on
311,978 strings of real text and on as many made ones as were tried (``benchmarks.unicode``). Rust
alone differs on 9 of the real strings, where scores are equal and rounding decides, and on one in
six of the made ones, of which it often loses text: ``Router`` goes the exact way with such strings.
Ids of more than 256 strings at once come from ``Bulk``.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from glmops.errors import InputError
from glmops.models.tokenizers.bulk import Bulk
from glmops.models.tokenizers.charsmap import SPACE, Charsmap
from glmops.models.tokenizers.chat_templates import CHAT_TEMPLATES
from glmops.models.tokenizers.decoding import Surfaces, white_space_read
from glmops.models.tokenizers.exact import (
    LITERALS,
    LONGEST_RUN,
    NEWLINE,
    TAB,
    ExactEncoder,
    blank,
    image,
    table,
)
from glmops.models.tokenizers.model_file import Kind, SentencePieceModel
from glmops.models.tokenizers.original import OriginalTokenizer
from glmops.models.tokenizers.risks import Risks, risks
from glmops.models.tokenizers.routing import Router
from glmops.models.tokenizers.unigram import literal_score

FAMILY = "chatglm"
_RUNS = {blank(count): count for count in range(2, LONGEST_RUN + 1)}
REGISTERED = ("<sop>", "<eop>", "<unk>", "<pad>", "[MASK]")


class ChatGLMFastTokenizer(OriginalTokenizer):
    """See the module. ``encode`` knows only the registered five of ``control_tokens``."""

    family = FAMILY

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        whole, control = self.backend_tokenizer, frozenset(self.control_tokens)
        self._tokenizer = Router(_tiers(whole), ExactEncoder(whole, control), _risks(whole))
        self._bulk = Bulk(whole, self.control_tokens)
        self._surfaces = Surfaces(whole, hidden=self.control_tokens, unknown="<unk>")

    def _ids(self, texts: list[str], add_special_tokens: bool, plain: bool) -> list[list[int]]:
        ids = None if self._tokenizer.truncation else self._bulk.ids(texts, plain=plain)
        if ids is None:
            return super()._ids(texts, add_special_tokens, plain)
        after = self.convert_tokens_to_ids(["[gMASK]", "<sop>"]) if add_special_tokens else []
        return [row + after for row in ids] if after else ids

    def _convert_encoding(self, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], list[Any]]:
        found, encodings = super()._convert_encoding(*args, **kwargs)
        if "offset_mapping" in found:
            found["offset_mapping"] = [_whole_runs(encoding) for encoding in encodings]
        return found, encodings

    def _written(self, ids: list[int], skip_special_tokens: bool) -> str:
        # As in the original, padding goes before anything is decoded.
        skipped = set(self.all_special_ids) if skip_special_tokens else {self.pad_token_id}
        ids = [token for token in ids if token not in skipped]
        return white_space_read(self._surfaces.text(ids))


def _whole_runs(encoding: Any) -> list[tuple[int, int]]:
    """The encoding's spans; Rust gives a run of spaces only the last of them."""
    return [
        (end - _RUNS[token], end) if end - start == 1 and token in _RUNS else (start, end)
        for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True)
    ]


def chatglm_tokenizer(
    model: SentencePieceModel, where: object, *, num_image_tokens: int = 0
) -> ChatGLMFastTokenizer:
    """The tokenizer of a model that was read from ``ice_text.model``.

    Args:
        where: Names the file in an error.
        num_image_tokens: Ids in front of the text's, 20000 in the first release.
    Raises:
        InputError: The model is not ChatGLM-6B's kind.
    """
    _require_chatglm(model, where)
    lowest = min(piece.score for piece in model.pieces if piece.kind == Kind.NORMAL)
    vocabulary = [(image(index), lowest) for index in range(num_image_tokens)]
    for piece in model.pieces:
        score = piece.score if piece.kind == Kind.NORMAL else lowest
        if piece.kind == Kind.USER_DEFINED:
            score = literal_score(piece.text)
        vocabulary.append((piece.text, score))
    ids = {text: index for index, (text, _) in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=ids["<unk>"], byte_fallback=True))
    tokenizer.normalizer = _normalizer(model.charsmap)
    tokenizer.pre_tokenizer = _apart(model, num_image_tokens, where)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [gMASK] <sop>",
        pair="$A [gMASK] <sop> $B <eop>",
        special_tokens=[(token, ids[token]) for token in ("[gMASK]", "<sop>", "<eop>")],
    )
    tokenizer.decoder = _decoder()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, lstrip=True, rstrip=True, normalized=False, special=True)
            for token in REGISTERED
        ]
    )
    return ChatGLMFastTokenizer(
        tokenizer_object=tokenizer,
        control_tokens=tuple(model.texts(Kind.UNKNOWN, Kind.CONTROL)),
        bos_token="<sop>",
        eos_token="<eop>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="[MASK]",
        padding_side="left",
        clean_up_tokenization_spaces=True,
        chat_template=CHAT_TEMPLATES[FAMILY],
    )


def _require_chatglm(model: SentencePieceModel, where: object) -> None:
    wanted = {
        "an algorithm other than unigram": model.algorithm == "unigram",
        "no normalisation table": bool(model.charsmap),
        "spaces that are not collapsed": model.remove_extra_whitespaces,
        "no dummy space in front": model.add_dummy_prefix,
        "other pieces for white space": set(model.texts(Kind.USER_DEFINED)) == set(LITERALS),
        "no [gMASK], <sop>, <eop> or <pad>": {"[gMASK]", "[MASK]", "<sop>", "<eop>", "<pad>"}
        <= set(model.texts(Kind.CONTROL)),
        "pieces that are switched off": not model.texts(Kind.UNUSED),
    }
    for fault, right in wanted.items():
        if not right:
            raise InputError(
                where,
                f"not the vocabulary of ChatGLM-6B: it has {fault}",
                do="Use the ice_text.model that was published with the checkpoint.",
            )


def _normalizer(charsmap: bytes) -> Any:
    runs = [normalizers.Replace(" " * k, blank(k)) for k in range(LONGEST_RUN, 1, -1)]
    return normalizers.Sequence(
        [
            normalizers.Replace("\n", NEWLINE),
            normalizers.Replace("\t", TAB),
            *runs,
            normalizers.Precompiled(charsmap),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Replace(Regex("^ +| +$"), ""),
            normalizers.Replace(" ", SPACE),
            normalizers.Prepend(SPACE),
        ]
    )


def _apart(model: SentencePieceModel, num_image_tokens: int, where: object) -> Any:
    """Cuts typed names of control, byte and image pieces in two, so that Unigram, which knows no
    kinds of pieces, cannot take them for these: between two letters that stand side by side in no
    piece of text, hence never inside one."""
    text_pieces = "\0".join(model.texts(Kind.NORMAL, Kind.USER_DEFINED))
    names = model.texts(Kind.UNKNOWN, Kind.CONTROL, Kind.BYTE)
    cuts: set[str] = set()
    for name in [*names, *(["<image_"] if num_image_tokens else [])]:
        pairs = [name[i : i + 2] for i in range(len(name) - 1)]
        if cuts.intersection(pairs):
            continue
        free = next((pair for pair in pairs if pair not in text_pieces), None)
        if free is None:
            raise InputError(
                where,
                "pieces of text overlap with a control piece",
                got=name,
                do="Use the ice_text.model that was published with the checkpoint.",
            )
        cuts.add(free)
    after: dict[str, str] = {}
    for first, second in map(tuple, sorted(cuts)):
        after[first] = after.get(first, "") + re.escape(second)
    pattern = "|".join(f"{re.escape(first)}(?=[{seconds}])" for first, seconds in after.items())
    return pre_tokenizers.Split(Regex(pattern), "merged_with_previous")


def _decoder() -> Any:
    """For other programs that read tokenizer.json; ours decodes in ``decoding``."""
    return decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
            decoders.Replace(NEWLINE, "\n"),
            decoders.Replace(TAB, "\t"),
        ]
    )


def _tiers(whole: Tokenizer) -> tuple[Tokenizer, Tokenizer, Tokenizer]:
    """``whole`` with fewer rules for white space; the vocabulary is shared, not copied."""
    rules = json.loads(whole.normalizer.__getstate__())["normalizers"]
    unspaced = [rule for rule in rules if not rule.get("content", "").startswith("<|blank_")]
    single = [
        rule for rule in unspaced if rule["type"] != "Replace" or rule["pattern"] == {"String": " "}
    ]
    return _with_rules(whole, single), _with_rules(whole, unspaced), whole


def _with_rules(whole: Tokenizer, rules: list[Any]) -> Tokenizer:
    tokenizer = Tokenizer(whole.model)
    normalizer = normalizers.Sequence([])
    normalizer.__setstate__(json.dumps({"type": "Sequence", "normalizers": rules}).encode())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer, tokenizer.post_processor = whole.pre_tokenizer, whole.post_processor
    added = whole.get_added_tokens_decoder()
    tokenizer.add_special_tokens([added[index] for index in sorted(added)])
    tokenizer.encode_special_tokens = whole.encode_special_tokens
    return tokenizer


def _risks(whole: Tokenizer) -> Risks:
    """What to look for in texts; see ``risks``."""
    charsmap = Charsmap(table(whole))
    changed = []
    for code in (*range(0xA0, 0x3400), *range(0xF900, 0xFFF0)):
        found = charsmap.longest(chr(code), 0)
        if found:
            changed.append((chr(code), found[0]))
    return risks(changed)
