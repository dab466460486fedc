"""Which tokenizer a folder holds, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from glmops.errors import InputError, RecipeError
from glmops.models.tokenizers import load_tokenizer
from glmops.models.tokenizers.model_file import read_model_file


@pytest.fixture
def original(shared: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of an original tokenizer's folder that a test may change."""

    def copy(name: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for file in shared(f"reference/tokenizer/{name}").glob("*"):
            if file.name != "reference.json":
                shutil.copyfile(file, target / file.name)
        return target

    return copy


def write_settings(folder: Path, name: str, **settings: object) -> None:
    file = folder / name
    before = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(before | settings))


def test_the_model_file_holds_what_the_library_reads_from_it(shared: Callable[[str], Path]) -> None:
    import sentencepiece

    for name in ("v1/ice_text.model", "v1-official/ice_text.model", "v2/tokenizer.model"):
        file = shared(f"reference/tokenizer/{name}")
        model = read_model_file(file)
        library = sentencepiece.SentencePieceProcessor(model_file=str(file))
        assert len(model.pieces) == library.vocab_size()
        for index, piece in enumerate(model.pieces):
            assert piece.text == library.id_to_piece(index)
            assert piece.score == library.get_score(index)
            assert (piece.kind == 3) == library.is_control(index)
            assert (piece.kind == 6) == library.is_byte(index)


def test_chatglm3_is_told_from_chatglm2_by_what_its_files_say(
    original: Callable[[str], Path],
) -> None:
    folder = original("v2")
    assert load_tokenizer(folder).family == "chatglm2"
    assert load_tokenizer(folder, family="chatglm3").family == "chatglm3"
    (folder / "tokenizer_config.json").unlink()
    assert load_tokenizer(folder).family == "chatglm2"  # nothing speaks for ChatGLM3
    write_settings(folder, "config.json", _name_or_path="somewhere/chatglm3-6b-32k")
    assert load_tokenizer(folder).family == "chatglm3"
    (folder / "config.json").unlink()
    (folder / "tokenization_chatglm.py").write_text("ROLES = ['<|assistant|>']\nraise SystemExit\n")
    assert load_tokenizer(folder).family == "chatglm3"
    (folder / "tokenization_chatglm.py").unlink()
    roles = {"64796": {"content": "<|assistant|>"}}
    write_settings(folder, "tokenizer_config.json", added_tokens_decoder=roles)
    assert load_tokenizer(folder).family == "chatglm3"


def test_without_a_setting_the_first_releases_image_ids_stand_in_front(
    original: Callable[[str], Path],
) -> None:
    folder = original("v1")
    write_settings(folder, "tokenizer_config.json", num_image_tokens=None)
    (folder / "tokenizer_config.json").write_text("{}")
    assert load_tokenizer(folder).convert_tokens_to_ids("<sop>") == 20404
    (folder / "tokenizer_config.json").write_text('{"num_image_tokens": 0}')
    assert load_tokenizer(folder).convert_tokens_to_ids("<sop>") == 404


def test_ids_that_are_not_the_models_are_refused(original: Callable[[str], Path]) -> None:
    # The 150528 vocabulary beside a tokenizer of the 130528 one, in small.
    folder = original("v1")
    write_settings(folder, "config.json", bos_token_id=20404, eos_token_id=20405)
    with pytest.raises(InputError, match=r"<sop> would be 404, but config\.json says 20404"):
        load_tokenizer(folder)
    write_settings(folder, "tokenizer_config.json", num_image_tokens=20000)
    assert load_tokenizer(folder).eos_token_id == 20405


def test_a_file_of_another_family_is_refused(
    original: Callable[[str], Path], shared: Callable[[str], Path]
) -> None:
    old, new = original("v1"), original("v2")
    shutil.copyfile(shared("reference/tokenizer/v2/tokenizer.model"), old / "ice_text.model")
    with pytest.raises(InputError, match=r"ice_text\.model: not the vocabulary of ChatGLM-6B"):
        load_tokenizer(old)
    shutil.copyfile(shared("reference/tokenizer/v1/ice_text.model"), new / "tokenizer.model")
    with pytest.raises(InputError, match="not the vocabulary of ChatGLM2-6B or ChatGLM3-6B"):
        load_tokenizer(new)
    with pytest.raises(InputError, match="a tokenizer of chatglm, not of chatglm2"):
        load_tokenizer(original("v1-image-offset"), family="chatglm2")
    with pytest.raises(RecipeError, match="family: unknown name"):
        load_tokenizer(new, family="bert")


def test_a_native_folder_of_another_family_is_refused(
    original: Callable[[str], Path], tmp_path: Path
) -> None:
    load_tokenizer(original("v2")).save_pretrained(str(tmp_path / "native"))
    assert load_tokenizer(tmp_path / "native", family="chatglm2").family == "chatglm2"
    with pytest.raises(InputError, match="a tokenizer of chatglm2, not of chatglm"):
        load_tokenizer(tmp_path / "native", family="chatglm")


@pytest.mark.parametrize(("name", "file"), [("v1", "ice_text.model"), ("v2", "tokenizer.model")])
def test_a_file_that_is_cut_short_or_something_else_is_refused(
    original: Callable[[str], Path], name: str, file: str
) -> None:
    folder = original(name)
    whole = (folder / file).read_bytes()
    cuts = [0, 1, 7, len(whole) // 3, len(whole) // 2, len(whole) - 1000, len(whole) - 1]
    for content in [whole[:cut] for cut in cuts] + [b"version https://git-lfs\n", b"\xff" * 400]:
        (folder / file).write_bytes(content)
        with pytest.raises(InputError, match="not a whole SentencePiece model"):
            load_tokenizer(folder)


def test_settings_that_change_texts_are_refused(original: Callable[[str], Path]) -> None:
    for name in ("v1", "v2"):
        folder = original(name)
        write_settings(folder, "tokenizer_config.json", do_lower_case=True)
        with pytest.raises(InputError, match="do_lower_case is on"):
            load_tokenizer(folder)
    write_settings(folder, "tokenizer_config.json", do_lower_case=False)
    folder = original("v1-image-offset")
    write_settings(folder, "tokenizer_config.json", num_image_tokens="many")
    with pytest.raises(InputError, match="num_image_tokens is no number of ids, got 'many'"):
        load_tokenizer(folder)


def test_a_native_file_of_another_kind_is_refused(
    original: Callable[[str], Path], tmp_path: Path
) -> None:
    for name in ("v1", "v2"):
        load_tokenizer(original(name)).save_pretrained(str(tmp_path / f"native-{name}"))
    file = "tokenizer.json"
    shutil.copyfile(tmp_path / "native-v2" / file, tmp_path / "native-v1" / file)
    with pytest.raises(InputError, match=r"tokenizer\.json: not a readable tokenizer"):
        load_tokenizer(tmp_path / "native-v1")


def test_original_tokenizers_need_no_torch(shared: Callable[[str], Path]) -> None:
    script = (
        "import sys; from glmops.models.tokenizers import load_tokenizer as l, chat_ids;"
        f"t = l({str(shared('reference/tokenizer/v1'))!r}); t(['e\\u0301']*300); t.decode([9]);"
        "chat_ids([{'role': 'user', 'content': 'a'}], t); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
