"""What the tokenizers of the original families have in common."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken
from transformers import BatchEncoding, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy

from glmops.models.tokenizers.decoding import Surfaces, clean_up

LARGE = 256  # rows
PORTION = 10_000  # rows that Rust holds at once
# What only the slower way gives.
_MORE = (
    "is_split_into_words",
    "return_token_type_ids",
    "return_overflowing_tokens",
    "return_special_tokens_mask",
    "return_offsets_mapping",
    "return_length",
    "sanitize_control_tokens",
)
_FORM: dict[str, Any] = {
    "padding_strategy": PaddingStrategy.DO_NOT_PAD,
    "truncation_strategy": TruncationStrategy.DO_NOT_TRUNCATE,
    "max_length": None,
    "stride": 0,
    "pad_to_multiple_of": None,
    "padding_side": None,
}


class OriginalTokenizer(PreTrainedTokenizerFast):
    """A fast tokenizer made from an original family's file.

    ``family`` names the family. ``control_tokens`` are the pieces that no text becomes, as far as
    plain ``encode`` is concerned: ``special_ids`` finds all of them.
    """

    vocab_files_names = {"tokenizer_file": "tokenizer.json"}  # noqa: RUF012 - transformers' own form
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    family: str
    _surfaces: Surfaces

    def __init__(self, *args: Any, control_tokens: tuple[str, ...] = (), **kwargs: Any) -> None:
        self.control_tokens = tuple(control_tokens)
        for passing in ("is_local", "local_files_only"):  # of this call, not to be stored
            kwargs.pop(passing, None)
        super().__init__(*args, control_tokens=self.control_tokens, **kwargs)

    @classmethod
    def convert_to_native_format(cls, **kwargs: Any) -> dict[str, Any]:
        return kwargs  # tokenizer.json is read as it is, never rebuilt from its parts

    @classmethod
    def _patch_mistral_regex(cls, tokenizer: Any, *args: Any, **kwargs: Any) -> Any:
        return tokenizer  # a repair of Mistral's tokenizers that would look into config.json

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Control tokens by id, those that plain ``encode`` does not know included."""
        known = dict(self._tokenizer.get_added_tokens_decoder())
        for token in self.control_tokens:
            known.setdefault(
                self._tokenizer.token_to_id(token),
                AddedToken(token, special=True, normalized=False),
            )
        return known

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **kwargs: Any
    ) -> list[str]:
        # By id: Rust's own list shows a control token with the white space that it swallowed.
        encoded = self(text, pair, add_special_tokens=add_special_tokens, **kwargs)
        tokens: list[str] = self.convert_ids_to_tokens(encoded.input_ids)
        return tokens

    def _encode_plus(self, text: Any, text_pair: Any = None, **settings: Any) -> BatchEncoding:
        """As transformers does it; a large batch of plain texts in less time and memory.

        From such a batch only ids and masks come back, without the places of tokens in the text
        (``char_to_token`` and kin): finding them is half of Rust's work.
        """
        if isinstance(text, str) and text_pair == "":  # a pair, though transformers sees none
            batch = super()._encode_plus([text], [text_pair], **settings)
            if settings.get("return_tensors") or settings.get("return_overflowing_tokens"):
                return batch
            return BatchEncoding({key: rows[0] for key, rows in batch.items()}, batch.encodings)
        large = isinstance(text, list) and len(text) > LARGE and text_pair is None
        if not large or any(settings.get(name) for name in _MORE) or not _are_texts(text):
            return super()._encode_plus(text, text_pair, **settings)
        form = {name: settings.get(name, value) for name, value in _FORM.items()}
        if form["padding_strategy"] != PaddingStrategy.DO_NOT_PAD:
            return super()._encode_plus(text, text_pair, **settings)
        self.set_truncation_and_padding(**form)
        split = settings.get("split_special_tokens")
        plain = self.split_special_tokens if split is None else split
        self._tokenizer.encode_special_tokens = plain
        found = {"input_ids": self._ids(text, settings.get("add_special_tokens", True), plain)}
        masked = settings.get("return_attention_mask")
        if "attention_mask" in self.model_input_names if masked is None else masked:
            found["attention_mask"] = [[1] * len(row) for row in found["input_ids"]]
        longest = max(found["input_ids"], key=len)
        self._eventual_warn_about_too_long_sequence(longest, form["max_length"], True)
        return BatchEncoding(found, tensor_type=settings.get("return_tensors"))

    def _ids(self, texts: list[str], add_special_tokens: bool, plain: bool) -> list[list[int]]:
        """Ids of a large batch, cut as the Rust side is set."""
        return [
            encoding.ids
            for start in range(0, len(texts), PORTION)
            for encoding in self._tokenizer.encode_batch_fast(
                texts[start : start + PORTION], add_special_tokens=add_special_tokens
            )
        ]

    def _encode_without_added_tokens(self, text: str) -> list[int]:
        ids: list[int] = self(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return ids

    def _save_pretrained(self, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        # How the last call cut and padded is no part of a tokenizer: equal ones, equal bytes.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        files: tuple[str, ...] = super()._save_pretrained(*args, **kwargs)
        return files

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **kwargs: Any,
    ) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        text = self._written(ids, skip_special_tokens)
        clean = clean_up_tokenization_spaces
        if self.clean_up_tokenization_spaces if clean is None else clean:
            text = clean_up(text)
        return text

    def _written(self, ids: list[int], skip_special_tokens: bool) -> str:
        """The text of ``ids``. ``skip_special_tokens`` changes nothing, as in the original: its
        control tokens write nothing anyway (ChatGLM2) or always their names (ChatGLM3)."""
        return self._surfaces.text(ids)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return self._written(self.convert_tokens_to_ids(tokens), False)


def _are_texts(items: list[Any]) -> bool:
    return all(type(item) is str for item in items)
