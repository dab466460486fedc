"""Open a stored tokenizer: a native folder, or the files of an original checkpoint.

No code of the folder's is run, and nothing is fetched. Which family an original folder belongs to
is told from its files:

- ``ice_text.model``: ChatGLM-6B. ``num_image_tokens`` of tokenizer_config.json says how many ids
  stand in front of the text's; where it is missing, 20000 do, as in the first release.
- ``tokenizer.model``, a SentencePiece file: ChatGLM2-6B or ChatGLM3-6B. Their files differ only
  where they name themselves, so ChatGLM3 is one whose tokenizer_config.json lists the role tokens
  (later revisions do), or whose tokenizer_config.json or config.json is named ``chatglm3…``, or
  whose tokenization_chatglm.py (read as text) knows ``<|assistant|>``. Otherwise it is ChatGLM2.
- ``tokenizer.model``, lines of base64 and a rank: GLM-4.

``family`` overrules this.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError, RecipeError
from glmops.storage import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ICE_TEXT, TOKENIZER_MODEL, NATIVE = "ice_text.model", "tokenizer.model", "tokenizer.json"
FAMILIES = ("chatglm", "chatglm2", "chatglm3", "glm4")


def load_tokenizer(
    path: Path | str, *, family: str | None = None, encode_special_tokens: bool = False
) -> PreTrainedTokenizerFast:
    """The tokenizer stored in the folder ``path``: local files only, and no code from the folder.

    ``.encode(text, add_special_tokens=False)`` gives plain ids; ``save_pretrained`` writes a native
    folder that this function opens again.

    Args:
        family: "chatglm", "chatglm2", "chatglm3" or "glm4"; by default told from the files. For an
            original folder only.
        encode_special_tokens: Role names in a text become control tokens (an original ChatGLM3
            folder only; a native one keeps what it was saved with).
    Raises:
        InputError: The folder or its tokenizer is missing, broken or of another family.
        RecipeError: ``family`` is not a known name.
    """
    folder = Path(path)
    if family is not None and family not in FAMILIES:
        raise RecipeError("family", "unknown name", got=family, do=f"Known: {', '.join(FAMILIES)}.")
    if not folder.is_dir():
        raise InputError(folder, "no such folder", do="Give the folder of a saved tokenizer.")
    if (folder / NATIVE).is_file():
        tokenizer = _native(folder)
        _require_family(folder / NATIVE, family, (getattr(tokenizer, "family", "glm4"),))
        return tokenizer
    if (folder / ICE_TEXT).is_file():
        return _chatglm(folder, family)
    if (folder / TOKENIZER_MODEL).is_file():
        return _later(folder, family, encode_special_tokens)
    raise InputError(
        folder,
        f"no {NATIVE} in it, nor {ICE_TEXT} or {TOKENIZER_MODEL}",
        do="Save the tokenizer there again, or copy the original files there.",
    )


def _native(folder: Path) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    file = folder / NATIVE
    settings = _settings(folder / "tokenizer_config.json")
    kind: Any = PreTrainedTokenizerFast
    if settings.get("tokenizer_class") == "ChatGLMFastTokenizer":
        from glmops.models.tokenizers.chatglm import ChatGLMFastTokenizer as kind
    elif settings.get("tokenizer_class") == "ChatGLM2FastTokenizer":
        from glmops.models.tokenizers.chatglm2 import ChatGLM2FastTokenizer as kind
    try:
        return kind.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception on a broken file
        raise InputError(
            file, f"not a readable tokenizer ({error})", do="Save the tokenizer there again."
        ) from error


def _chatglm(folder: Path, family: str | None) -> PreTrainedTokenizerFast:
    from glmops.models.tokenizers.chatglm import chatglm_tokenizer
    from glmops.models.tokenizers.model_file import read_model_file

    file = folder / ICE_TEXT
    _require_family(file, family, ("chatglm",))
    model = read_model_file(file)
    settings = _supported(folder)
    images = settings.get("num_image_tokens", 20000)
    if not isinstance(images, int) or not 0 <= images <= 1_000_000:
        raise InputError(
            folder / "tokenizer_config.json",
            "num_image_tokens is no number of ids",
            got=images,
            do="Copy the file that was published with the checkpoint.",
        )
    tokenizer = chatglm_tokenizer(model, file, num_image_tokens=images)
    _require_same_ids(folder, tokenizer)
    return tokenizer


def _later(
    folder: Path, family: str | None, encode_special_tokens: bool
) -> PreTrainedTokenizerFast:
    from glmops.models.tokenizers.chatglm2 import chatglm2_tokenizer
    from glmops.models.tokenizers.model_file import read_model_file
    from glmops.models.tokenizers.tiktoken import is_tiktoken, tiktoken_tokenizer

    file = folder / TOKENIZER_MODEL
    if is_tiktoken(file):
        _require_family(file, family, ("glm4",))
        return tiktoken_tokenizer(file, _settings(folder / "tokenizer_config.json"))
    _require_family(file, family, ("chatglm2", "chatglm3"))
    model = read_model_file(file)
    _supported(folder)
    return chatglm2_tokenizer(
        model,
        file,
        family=family or _told_apart(folder),
        encode_special_tokens=encode_special_tokens,
    )


def _told_apart(folder: Path) -> str:
    """ "chatglm3" or "chatglm2"; see the module."""
    settings = _settings(folder / "tokenizer_config.json")
    names = [settings.get("name_or_path"), _settings(folder / "config.json").get("_name_or_path")]
    if any("chatglm3" in str(name).lower() for name in names):
        return "chatglm3"
    if any("chatglm2" in str(name).lower() for name in names):
        return "chatglm2"
    code = folder / "tokenization_chatglm.py"
    known = code.read_text(encoding="utf-8", errors="replace") if code.is_file() else ""
    return "chatglm3" if "<|assistant|>" in f"{settings}{known}" else "chatglm2"


def _require_family(file: Path, given: str | None, possible: tuple[str, ...]) -> None:
    if given is not None and given not in possible:
        raise InputError(
            file,
            f"a tokenizer of {' or '.join(possible)}, not of {given}",
            do="Give the folder of the checkpoint's own tokenizer.",
        )


def _require_same_ids(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuse a vocabulary whose ids are not those of the model beside it."""
    config = _settings(folder / "config.json")
    for key, token in (("bos_token_id", "<sop>"), ("eos_token_id", "<eop>")):
        wanted = config.get(key)
        found = tokenizer.convert_tokens_to_ids(token)
        if wanted is not None and wanted != found:
            raise InputError(
                folder / "tokenizer_config.json",
                f"{token} would be {found}, but config.json says {wanted}",
                do="Set num_image_tokens to the checkpoint's (20000 for the 150528 vocabulary, "
                "else 0), or copy the tokenizer that belongs to it.",
            )


def _supported(folder: Path) -> Mapping[str, Any]:
    settings = _settings(folder / "tokenizer_config.json")
    for key in ("do_lower_case", "remove_space"):
        if settings.get(key):
            raise InputError(
                folder / "tokenizer_config.json",
                f"{key} is on, which no published checkpoint uses",
                do=f"Set {key} to false if the model was trained without it.",
            )
    return settings


def _settings(file: Path) -> Mapping[str, Any]:
    """The object in a JSON file; empty where there is no file."""
    if not file.is_file():
        return {}
    settings = read_json(file)
    if not isinstance(settings, dict):
        raise InputError(file, "not a JSON object", do="Copy the file again.")
    return settings
