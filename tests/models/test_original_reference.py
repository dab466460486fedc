"""ChatGLM2 against what the original code computed, and both families through the import.

ChatGLM-6B's own cases are in test_chatglm_reference.py. Limits are those of reference/README.md.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from deviations import note
from glmops.models import load
from glmops.models.original.importing import import_model
from glmops.models.original.names import mapped_tensors
from glmops.models.original.recognise import recognise

Find = Callable[[str], Path]

HERE = "reference/chatglm2"
LOGITS, LOSS, GRADIENT = 3e-4, 1e-4, 1e-3
FORWARD = [
    "single",
    "single_tokenizer_inputs",
    "batch_left_padded",
    "batch_left_padded_no_positions",
    "train_right_padded",
    "train_left_padded",
]
TRAIN = ["train_right_padded", "train_left_padded"]
GENERATE = [
    "single",
    "row1_alone",
    "batch_left_padded",
    "batch_left_padded_no_positions",
    "batch_early_stop",
]


def case_of(data: dict[str, Tensor], case: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{case}."): v for k, v in data.items() if k.startswith(f"{case}.")}


def given(case: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: case[key] for key in ("input_ids", "attention_mask", "position_ids") if key in case
    }


def real_tokens(case: dict[str, Tensor]) -> Tensor:
    return case.get("attention_mask", torch.ones_like(case["input_ids"])).bool()


def loaded(shared: Find, dtype: str = "float32") -> Any:
    return load(shared(f"{HERE}/model"), dtype=dtype, device="cpu")[0]


@pytest.fixture(scope="module")
def model(shared: Find) -> Any:
    return loaded(shared)


def originals(shared: Find) -> dict[str, list[str]]:
    """Original name → the native names its rows become."""
    original = recognise(shared(f"{HERE}/model"))
    assert original is not None
    return {each.source: [name for name, _ in each.parts] for each in mapped_tensors(original)}


@pytest.mark.parametrize("name", FORWARD)
def test_logits_equal_the_original(name, model, shared, record_property) -> None:
    case = case_of(load_file(shared(f"{HERE}/forward.safetensors")), name)
    with torch.no_grad():
        logits_BTV = model(**given(case)).logits
    off = (logits_BTV - case["logits"])[real_tokens(case)].abs().max().item()
    record_property("max_abs", off)
    note("chatglm2-6b", "logits", off, LOGITS)


@pytest.mark.parametrize("name", TRAIN)
def test_loss_and_every_gradient_equal_the_original(name, shared, record_property) -> None:
    case = case_of(load_file(shared(f"{HERE}/forward.safetensors")), name)
    expected = json.loads(shared(f"{HERE}/forward.json").read_text())["cases"][name]
    model, names = loaded(shared), originals(shared)
    loss = model(**given(case), labels=case["labels"]).loss
    loss.backward()
    note("chatglm2-6b", "loss", abs(loss.item() - case["loss"].item()), LOSS)
    weights = dict(model.named_parameters())
    gradients = {
        source: torch.cat([weights[each].grad for each in parts]) for source, parts in names.items()
    }
    for source, norm in expected["grad_norms"].items():
        off = abs(gradients[source].norm().item() - norm) / norm
        note("chatglm2-6b", "gradient norms, relative", off, GRADIENT)
    for source in [key.removeprefix("grad.") for key in case if key.startswith("grad.")]:
        full = case[f"grad.{source}"]
        off = ((gradients[source] - full).abs().max() / full.abs().max()).item()
        record_property(source, off)
        note("chatglm2-6b", "gradients, relative", off, GRADIENT)


@pytest.mark.parametrize("name", GENERATE)
def test_greedy_ids_equal_the_original(name, model, shared) -> None:
    case = case_of(load_file(shared(f"{HERE}/generate.safetensors")), name)
    about = json.loads(shared(f"{HERE}/generate.json").read_text())["generate"][name]
    inputs = {key: case[key] for key in ("input_ids", "attention_mask") if key in case}
    found = model.generate(
        **inputs, max_new_tokens=about["new_tokens"], do_sample=False, **about["kwargs"]
    )
    assert torch.equal(found, case["output_ids"])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_six_steps_of_full_tuning_equal_the_original(attention, shared) -> None:
    """AdamW divides a gradient by its own size, so where one is only rounding noise a weight moves
    by up to the learning rate either way: hence ten times the limit of a single loss, and weights
    are compared by how far they have moved."""
    data = load_file(shared(f"{HERE}/training.safetensors"))
    about = json.loads(shared(f"{HERE}/training.json").read_text())["full"]
    model, names = loaded(shared).train(), originals(shared)
    model.set_attn_implementation(attention)
    weights = dict(model.named_parameters())
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    optimiser = torch.optim.AdamW(
        model.parameters(), about["lr"], betas=tuple(about["betas"]), eps=1e-8, weight_decay=0.0
    )
    for expected in about["loss_before_each_step"]:
        loss = model(input_ids=data["input_ids"], labels=data["labels"]).loss
        off = abs(loss.item() - expected)
        note("chatglm2-6b", f"loss over 6 training steps, {attention}", off, 10 * LOSS)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = {k.removeprefix("full.after."): v for k, v in data.items() if "full.after" in k}
    assert after
    for source, expected in after.items():
        found = torch.cat([weights[each].detach() for each in names[source]])
        start = torch.cat([before[each] for each in names[source]])
        off = ((found - expected).norm() / (expected - start).norm()).item()
        note("chatglm2-6b", f"a weight after 6 steps, share of its way, {attention}", off, 1e-2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["single", "batch_left_padded"])
def test_half_precision_is_no_further_off_than_the_original(dtype, name, shared) -> None:
    exact = case_of(load_file(shared(f"{HERE}/forward.safetensors")), name)
    half = load_file(shared(f"{HERE}/half_precision.safetensors"))[f"{dtype}.{name}.logits"]
    model, real = loaded(shared, dtype), real_tokens(exact)
    with torch.no_grad():
        found = model(**given(exact)).logits.float()
    ours = (found - exact["logits"])[real].square().mean().sqrt().item()
    theirs = (half.float() - exact["logits"])[real].square().mean().sqrt().item()
    note("chatglm2-6b", f"{dtype} error / the original's (rms)", ours / theirs, 1.0)


@pytest.mark.parametrize("family", ["chatglm-v1", "chatglm2"])
@pytest.mark.parametrize("folder", ["model", "quant-int8", "quant-int4"])
def test_an_imported_checkpoint_is_the_original_bit_for_bit(
    family, folder, shared, tmp_path
) -> None:
    source = shared(f"reference/{family}/{folder}")
    import_model(source, tmp_path / "native")
    for dtype in ("float32", "auto"):
        direct, tokenizer = load(source, dtype=dtype, device="cpu")
        native, native_tokenizer = load(tmp_path / "native", dtype=dtype, device="cpu")
        assert direct.dtype == native.dtype
        theirs, ours = direct.state_dict(), native.state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
        assert direct.generation_config.to_dict() == native.generation_config.to_dict()
        if folder != "model":  # the reference's quantised folders hold weights alone
            assert tokenizer is native_tokenizer is None
            continue
        text = "今天的天气怎么样？\n\thello"
        assert native_tokenizer(text).input_ids == tokenizer(text).input_ids


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(
    ("family", "case", "limit"),
    [("chatglm-v1", "single_gmask", 2e-3), ("chatglm2", "single", 3e-4)],
)
def test_an_official_quantised_release_answers_as_the_original(
    family, case, limit, bits, shared
) -> None:
    folder = shared(f"reference/{family}/quant-int{bits}")
    expected = case_of(load_file(folder / "reference.safetensors"), case)
    model, _ = load(folder, device="cpu")
    assert model.dtype == torch.float32  # the exact values, as the original makes them on a CPU
    ids = expected["input_ids"]
    with torch.no_grad():
        off = (model(input_ids=ids).logits - expected["logits"]).abs().max().item()
    name = "chatglm-6b" if family == "chatglm-v1" else "chatglm2-6b"
    note(name, f"logits of the INT{bits} release", off, limit)
    count = expected["generated"].shape[1] - ids.shape[1]
    found = model.generate(input_ids=ids, max_new_tokens=count, do_sample=False)
    assert torch.equal(found, expected["generated"])


def test_a_checkpoint_of_the_first_vocabulary_is_the_same_model_20000_ids_later(
    shared, tmp_path
) -> None:
    """The reference checkpoint with 20000 image rows in front, as the first release had them."""
    moved, offset = tmp_path / "original", 20000
    settings = json.loads(shared("reference/chatglm-v1/model/config.json").read_text())
    for key in settings:
        if key.endswith("_token_id") or key == "vocab_size":
            settings[key] += offset
    moved.mkdir()
    (moved / "config.json").write_text(json.dumps(settings))
    for name in ("ice_text.model", "tokenizer_config.json"):
        shutil.copy(shared(f"reference/tokenizer/v1-image-offset/{name}"), moved)
    tensors = {}
    for shard in shared("reference/chatglm-v1/model").glob("*.bin"):
        tensors |= torch.load(shard, weights_only=True)
    for name in ("transformer.word_embeddings.weight", "lm_head.weight"):
        images = torch.full((offset, tensors[name].shape[1]), 9.0).half()
        tensors[name] = torch.cat([images, tensors[name]])
    torch.save(tensors, moved / "pytorch_model.bin")

    import_model(moved, tmp_path / "native")
    case = case_of(load_file(shared("reference/chatglm-v1/forward.safetensors")), "single_gmask")
    for folder in (moved, tmp_path / "native"):
        model, tokenizer = load(folder, dtype="float32", device="cpu")
        with torch.no_grad():
            logits_BTV = model(case["input_ids"] + offset).logits[..., offset:]
        off = (logits_BTV - case["logits"]).abs().max().item()
        note("chatglm-6b", "logits, first vocabulary", off, 2e-3)
        assert model.generation_config.eos_token_id == 405 + offset
        assert tokenizer.convert_tokens_to_ids("[gMASK]") == model.config.gmask_token_id
