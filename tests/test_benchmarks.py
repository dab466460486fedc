"""The benchmarks run, and compare what they say they compare. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu, models, naive
from benchmarks.attention import attention_calls
from benchmarks.gpu_cases import Case, flops_per_token, prepared
from benchmarks.random_weights import SIZES, random_model

TINY_GPU = [
    *("--device", "cpu", "--size", "tiny", "--steps", "1", "--prefix", "8", "--new-tokens", "4")
]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", models.KINDS)
def test_both_sides_are_the_same_model(kind: str) -> None:
    model = models.build(kind, "tiny", torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5)  # else every logit is nearly 0 on either side
    row = models.row(kind, model.config, 24, 8)
    ids_BT, labels_BT = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
    assert model(input_ids=ids_BT).logits.abs().max() > 1
    assert models.distance(kind, model, 24) < 1e-3
    ours = models.loss(model, models.collated(kind, [row]))
    naively = naive.loss(kind, model, ids_BT, labels_BT)
    torch.testing.assert_close(naively, ours, rtol=1e-5, atol=1e-5)
    model.generation_config.eos_token_id = None
    ours_BT = models.generate(model, ids_BT, 6)
    assert torch.equal(naive.generate(kind, model, ids_BT, 6), ours_BT)


def test_a_ratio_is_the_median_over_the_pairs() -> None:
    # 2/1 = 2, 9/3 = 3, 4/4 = 1. The medians of the sides, 4 and 3, would give 1.33.
    assert models.Comparison("glm", "train 8", [2.0, 9.0, 4.0], [1.0, 3.0, 4.0]).ratio == 2.0


def test_attention_is_fused_and_causal_rows_have_no_mask(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["--size", "tiny", "--batches", "2x24", "--new-tokens", "4", "--runs", "1"]
    report = models.main(asked)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == report
    assert [(each["model"], each["what"]) for each in report["results"]] == [
        ("chatglm", "train 2x24"),
        ("chatglm", "generate 4"),
        ("glm", "train 2x24"),
        ("glm", "generate 4"),
    ]
    assert all(each["note"] == "4 of 4 tokens equal" for each in report["results"][1::2])
    # Two layers; generating three tokens reads the row once and then one token, twice.
    free = "one query: everything visible"
    for kind, whole in (
        ("glm", "whole row: causal flag"),
        ("chatglm", "whole row: bool mask [1, 1, 64, 64]"),
    ):
        seen = report["attention"][kind]
        assert seen["train"] == {whole: 2}
        assert seen["generate 3"] == {whole: 2, free: 4}
        assert seen["kernels"]


def test_the_probe_sees_a_dense_mask_where_there_is_one() -> None:
    model = models.build("glm", "tiny", torch.float32).eval()
    ids_BT = torch.tensor([[0, 0, 11, 12], [11, 12, 13, 14]])
    with attention_calls() as seen:
        model(input_ids=ids_BT, attention_mask=(ids_BT > 0).long())
    assert list(seen) == ["whole row: bool mask [2, 1, 4, 4]"]


def test_every_case_for_the_gpu_runs_on_a_cpu_when_it_is_tiny(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main([*TINY_GPU, "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == report
    assert report["failed"] == {}
    outcomes = {each["case"]: each for each in report["outcomes"]}
    assert list(outcomes) == [case.name for case in gpu.CASES]
    # By hand: 8 slots · key and value · 2 layers · 64; rank 8 on 64 → 192, in 2 layers; rank 8 on
    # 64 → 64, 64 → 32 and 64 → 32 (two of four heads' keys), in 2 layers.
    expected = {"chatglm prefix": 2048, "chatglm lora": 4096, "chatglm2 lora": 5120}
    for name, outcome in outcomes.items():
        kind = " ".join(name.split()[:2])
        assert outcome["trained_parameters"] == expected.get(kind, 0)
        assert outcome["tokens_per_second"] > 0
        assert outcome["used_gb"] is None


@pytest.mark.parametrize(
    ("method", "per_weight", "of_head"), [("lora", 4, 0.5), ("generate", 2, 1)]
)
def test_flops_are_those_of_the_matrices_by_hand(
    method: str, per_weight: int, of_head: float
) -> None:
    asked = gpu.parser().parse_args(TINY_GPU)
    case = Case("chatglm", method, 1, 16)
    model = prepared(case, asked)
    # Two layers of 64 → 192, 64 → 64, 64 → 256 and 256 → 64; the head writes every token.
    layer = 64 * 192 + 64 * 64 + 2 * 64 * 256
    head = 64 * SIZES["tiny"]["chatglm"]["vocab_size"]
    assert flops_per_token(case, model) == per_weight * (2 * layer + of_head * head)


def test_a_machine_that_lacks_a_package_says_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    versions = {"transformers": "5.17.0", "pydantic": "2.14.3", "safetensors": "0.8.0"}
    monkeypatch.setattr(gpu, "installed", versions.get)
    assert gpu.main([*TINY_GPU, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "transformers 5.17.0 is older than what glmops is written for: pip install" in said
    assert "peft is not installed: pip install -c constraints.txt peft" in said
    assert not list(tmp_path.iterdir())


def test_a_case_that_fails_is_named_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = Case("no-such-model", "generate", 1, 16)
    monkeypatch.setattr(gpu, "CASES", (broken, Case("chatglm", "generate", 1, 16)))
    assert gpu.main([*TINY_GPU, "--out", str(tmp_path)]) == 1
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["failed"] == {broken.name: "KeyError: 'no-such-model'"}
    assert [each["case"] for each in report["outcomes"]] == ["chatglm generate 1×16"]
    assert "FAILED: KeyError" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["chatglm", "chatglm2"])
def test_a_model_made_on_its_device_is_the_model_its_class_makes(kind: str) -> None:
    from transformers import GlmConfig, GlmForCausalLM

    from glmops.models.chatglm.configuration import ChatGLMConfig
    from glmops.models.chatglm.modeling import ChatGLMForCausalLM

    made = random_model(kind, "tiny", device="cpu", dtype=torch.bfloat16)
    sizes = SIZES["tiny"][kind]
    classes = {
        "chatglm": lambda: ChatGLMForCausalLM(ChatGLMConfig(**sizes)),
        "chatglm2": lambda: GlmForCausalLM(GlmConfig(**sizes)),
    }
    expected = classes[kind]()
    assert {name: each.shape for name, each in made.state_dict().items()} == {
        name: each.shape for name, each in expected.state_dict().items()
    }
    assert {each.dtype for each in made.parameters()} == {torch.bfloat16}
    for (name, mine), (_, theirs) in zip(
        made.named_buffers(), expected.named_buffers(), strict=True
    ):
        assert torch.equal(mine, theirs), name
    head, embedding = (each.weight for each in (made.lm_head, made.get_input_embeddings()))
    assert (head is embedding) == (kind == "chatglm")
    assert embedding.detach().float().std().item() == pytest.approx(0.02, rel=0.05)


def test_four_bit_weights_are_those_of_the_layers_and_no_others() -> None:
    import bitsandbytes

    model = random_model("chatglm", "tiny", device="cpu", dtype=torch.bfloat16, nf4=True)
    kinds = {name: type(each) for name, each in model.named_modules() if hasattr(each, "weight")}
    four = {name for name, kind in kinds.items() if kind is bitsandbytes.nn.Linear4bit}
    inner = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h")
    inner = (*inner, "mlp.dense_4h_to_h")
    assert four == {f"transformer.layers.{i}.{name}" for i in range(2) for name in inner}
    assert kinds["lm_head"] is torch.nn.Linear
    # 192·64 weights of 4 bits, two to a byte.
    assert model.transformer.layers[0].attention.query_key_value.weight.numel() == 192 * 64 // 2
