from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import toy_model as toy
from glmops.errors import InputError, RecipeError
from glmops.models import load
from glmops.models.chatglm.configuration import ChatGLMConfig
from glmops.models.generation import generate_batches
from glmops.models.small import ARCHITECTURES, small_glm, tiny
from glmops.models.tokenizers import special_ids, text_ids

WIDTHS = {"hidden_size": 64, "intermediate_size": 256, "layers": 2, "heads": 4, "kv_heads": 4}
# Each architecture's own row: control tokens before the prompt, between prompt and answer, at the
# end (ChatGLM-6B: ARCHITECTURE.md 1.10; GLM-4: the demo's; GPT has an end token alone).
ROWS: dict[str, tuple[list[str], list[str], str]] = {
    "glm": (["[gMASK]", "<sop>"], [], "<|endoftext|>"),
    "chatglm": ([], ["[gMASK]", "<sop>"], "<eop>"),
    "gpt1": ([], [], "<|endoftext|>"),
    "gpt2": ([], [], "<|endoftext|>"),
}
# Two of each colour, behind texts of unlike lengths.
EIGHT = [
    replace(toy.RECORDS[number], body="天空和雪山。" * (number % 3) + toy.RECORDS[number].body)
    for number in range(8)
]


def _model(name: str, seed: int = 1, **changes: Any) -> Any:
    settings = toy.base_settings(**{**WIDTHS, **changes})
    return ARCHITECTURES[name](settings, toy.tokenizer(), max_tokens=80, seed=seed)


def _rows(name: str) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and answers as ids, for the architecture ``name``."""
    before, between, end = ROWS[name]
    tokenizer = toy.tokenizer()
    prompts = [
        special_ids(before, tokenizer)
        + text_ids("".join(row.prompt), tokenizer)
        + special_ids(between, tokenizer)
        for row in EIGHT
    ]
    answers = [text_ids(row.target, tokenizer) + special_ids([end], tokenizer) for row in EIGHT]
    return prompts, answers


def _batch(name: str) -> dict[str, torch.Tensor]:
    prompts, answers = _rows(name)
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    spare = [width - len(p) - len(a) for p, a in zip(prompts, answers, strict=True)]
    columns = list(zip(prompts, answers, spare, strict=True))
    return {
        "input_ids": torch.tensor([p + a + [0] * n for p, a, n in columns]),
        "attention_mask": torch.tensor([[1] * (width - n) + [0] * n for *_, n in columns]),
        "labels": torch.tensor([[-100] * len(p) + a + [-100] * n for p, a, n in columns]),
    }


def _trained(name: str) -> tuple[Any, float]:
    """The model after 160 steps on the eight rows, and its loss on them without dropout."""
    model = _model(name).train()
    batch = _batch(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=10)
    for _ in range(160):
        optimizer.zero_grad()
        model(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warm_up.step()
    with torch.no_grad():
        return model.eval(), float(model.eval()(**batch).loss)


def test_the_settings_become_the_model() -> None:
    model = small_glm(toy.base_settings(), toy.tokenizer(), max_tokens=80, seed=1)
    assert type(model).__name__ == "GlmForCausalLM"
    # By hand: embeddings V·32; per layer q and o 2·32·32, k and v 2·32·16, their biases 32+16+16,
    # gate and up 32·96, down 48·32, two norms of 32; a last norm. The head is the embeddings again.
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 64 + 32 * 96 + 48 * 32 + 2 * 32
    assert (
        sum(each.numel() for each in model.parameters())
        == len(toy.tokenizer()) * 32 + 2 * layer + 32
    )
    assert (model.config.pad_token_id, model.config.eos_token_id) == (0, 0)
    assert model.generation_config.eos_token_id == 0
    assert model.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "kind", "layer", "rest"),
    [
        # By hand, hidden 64: fused projection 64·192+192, its way out 64·64+64, MLP 64·256+256 and
        # 256·64+64, two norms of 2·64. ChatGLM-6B and GPT-2 end in a norm, the GPTs begin with
        # 80 learned positions; every head is the embeddings again.
        ("chatglm", "ChatGLMForCausalLM", 49984, 128),
        ("gpt1", "OpenAIGPTLMHeadModel", 49984, 80 * 64),
        ("gpt2", "GPT2LMHeadModel", 49984, 80 * 64 + 128),
    ],
)
def test_an_architecture_is_made_in_the_sizes_of_the_settings(
    name: str, kind: str, layer: int, rest: int
) -> None:
    model = _model(name)
    assert type(model).__name__ == kind
    expected = len(toy.tokenizer()) * 64 + 2 * layer + rest
    assert sum(each.numel() for each in model.parameters()) == expected
    assert model.config.max_position_embeddings == 80
    assert model.dtype == torch.float32
    end = special_ids(["<eop>", "<|endoftext|>"], toy.tokenizer()) if name == "chatglm" else 0
    for config in (model.config, model.generation_config):
        assert (config.pad_token_id, config.eos_token_id) == (0, end)
    start = special_ids(["<sop>"], toy.tokenizer())[0] if name == "chatglm" else None
    assert model.config.bos_token_id == start  # GPT-2's own default is a token we do not have


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_seed_gives_one_set_of_weights(name: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        return torch.cat([each.flatten() for each in _model(name, seed).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_trained_model_comes_back_from_disk_and_answers_alike_in_any_batch(
    name: str, tmp_path: Path
) -> None:
    trained, loss = _trained(name)
    assert loss < 0.02  # it starts near ln(vocabulary) = 5.9; 0.35 is a guess among four colours
    trained.save_pretrained(str(tmp_path))
    toy.tokenizer().save_pretrained(str(tmp_path))
    model, tokenizer = load(tmp_path, device="cpu")
    batch = _batch(name)
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, trained(**batch).logits)
    prompts, _ = _rows(name)
    assert len({len(prompt) for prompt in prompts}) > 1  # else nothing is padded
    options: dict[str, Any] = {"stop": [ROWS[name][2]], "max_new_tokens": 8}
    together = generate_batches(model, tokenizer, prompts, batch_size=8, **options)
    assert together == generate_batches(model, tokenizer, prompts, batch_size=1, **options)
    assert [each.text for each in together] == [row.target for row in EIGHT]


@pytest.mark.parametrize("name", ["gpt1", "gpt2"])
def test_generation_gives_learned_positions_from_the_mask_not_from_the_padding(name: str) -> None:
    """The oracle reads the whole row alone for each token: no padding, mask, positions or cache."""
    model = _model(name).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(6)  # so that a position more or less changes the answer
    prompts, _ = _rows(name)
    written = generate_batches(
        model, toy.tokenizer(), prompts, stop=["<|user|>"], max_new_tokens=8, batch_size=8
    )
    [stop] = special_ids(["<|user|>"], toy.tokenizer())
    for prompt, answer in zip(prompts, written, strict=True):
        ids = list(prompt)
        with torch.no_grad():
            while len(ids) < len(prompt) + 8 and stop not in ids:
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert list(answer.ids) == [token for token in ids[len(prompt) :] if token != stop]
    with torch.no_grad():
        padded = torch.tensor([[0] * 5 + prompts[0]])
        mask = torch.tensor([[0] * 5 + [1] * len(prompts[0])])
        astray = model(input_ids=padded, attention_mask=mask).logits[0, 5:]
        alone = model(input_ids=torch.tensor([prompts[0]])).logits[0]
    assert (astray - alone).abs().max() > 1  # what forward alone does: hence the positions


@pytest.mark.parametrize("name", ["gpt1", "gpt2"])
def test_an_answer_may_use_the_last_learned_position_and_no_more(name: str) -> None:
    model = _model(name).eval()
    prompt = [5] * 73
    options: dict[str, Any] = {"stop": [], "batch_size": 1}
    # 73 tokens of prompt and 8 of answer, of which the last is not read: 80 positions.
    [answer] = generate_batches(model, toy.tokenizer(), [prompt], max_new_tokens=8, **options)
    assert len(answer.ids) == 8
    with pytest.raises(InputError, match=r"prompt 1: with 9 tokens .* 80 positions, got 81\."):
        generate_batches(model, toy.tokenizer(), [prompt], max_new_tokens=9, **options)


def test_a_stored_gpt1_opens_under_a_head_that_classifies(tmp_path: Path) -> None:
    from transformers import OpenAIGPTDoubleHeadsModel, OpenAIGPTForSequenceClassification

    model = _model("gpt1").eval()
    model.save_pretrained(str(tmp_path))
    ids = torch.tensor([[9, 8, 7, 0, 0], [9, 8, 7, 6, 5]])
    opened, found = OpenAIGPTForSequenceClassification.from_pretrained(
        str(tmp_path), num_labels=3, output_loading_info=True
    )
    assert set(found["missing_keys"]) == {"score.weight"}
    with torch.no_grad():
        states = model.transformer(ids).last_hidden_state
        # The last token that is not padding decides: its place is known from the config's pad id.
        expected = torch.stack((states[0, 2], states[1, 4])) @ opened.score.weight.T
        torch.testing.assert_close(opened.eval()(ids).logits, expected)
    both, found = OpenAIGPTDoubleHeadsModel.from_pretrained(str(tmp_path), output_loading_info=True)
    assert all("multiple_choice_head" in name for name in found["missing_keys"])
    with torch.no_grad():
        torch.testing.assert_close(both.eval()(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "gpt1",
            {"intermediate_size": 128},
            r"intermediate_size: GPT-1 .* got 128\. Set it to 256",
        ),
        ("gpt1", {"kv_heads": 2}, r"kv_heads: .* 4 heads has its own keys, got 2\. Set it to 4"),
        ("gpt2", {"kv_heads": 2}, r"kv_heads: .* 4 heads has its own keys, got 2\."),
        ("chatglm", {"kv_heads": 1}, r"kv_heads: .* 4 heads has its own keys, got 1\."),
        ("chatglm", {"hidden_size": 72}, r"heads: hidden_size / heads must divide by 4 .* got 18"),
        ("glm", {"hidden_size": 72}, r"heads: hidden_size / heads must divide by 4 .* got 18"),
    ],
)
def test_settings_that_an_architecture_cannot_follow_are_refused(
    name: str, changes: dict[str, int], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        _model(name, **changes)


def _full_size(name: str) -> Any:
    import transformers

    configs = {
        "chatglm-6b": lambda: ChatGLMConfig(),
        # GLM-4-9B, ChatGLM2-6B as imported, and one with as many key heads as heads.
        "glm4-9b": lambda: transformers.GlmConfig(),
        "chatglm2": lambda: transformers.GlmConfig(
            vocab_size=65024, num_hidden_layers=28, pad_token_id=0, eos_token_id=2
        ),
        "glm-mha": lambda: transformers.GlmConfig(num_key_value_heads=32),
        "glm4-32b-0414": lambda: transformers.Glm4Config(
            hidden_size=6144, num_attention_heads=48, num_key_value_heads=8, num_hidden_layers=61
        ),
        "gpt1": lambda: transformers.OpenAIGPTConfig(),
        "gpt2": lambda: transformers.GPT2Config(),
        "llama3": lambda: transformers.LlamaConfig(num_key_value_heads=8, vocab_size=128256),
        "mistral": lambda: transformers.MistralConfig(),
        "qwen2": lambda: transformers.Qwen2Config(
            hidden_size=896, intermediate_size=4864, num_attention_heads=14, num_key_value_heads=2
        ),
        "qwen3": lambda: transformers.Qwen3Config(
            hidden_size=1024, num_attention_heads=16, num_key_value_heads=8, head_dim=128
        ),
    }
    return configs[name]()


FULL_SIZE = (
    "chatglm-6b",
    "glm4-9b",
    "chatglm2",
    "glm-mha",
    "glm4-32b-0414",
    "gpt1",
    "gpt2",
    "llama3",
    "mistral",
    "qwen2",
    "qwen3",
)
_NAMES = {
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "layer_types", "n_embd", "n_layer", "n_head"),
}


@pytest.mark.parametrize("name", FULL_SIZE)
def test_tiny_changes_sizes_and_nothing_else(name: str) -> None:
    config = _full_size(name)
    before = config.to_dict()
    small = tiny(config)
    assert type(small) is type(config)
    assert config.to_dict() == before
    after = small.to_dict()
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed <= _NAMES
    assert small.num_hidden_layers == 2
    assert small.hidden_size <= 128

    def per_group(of: Any) -> int:
        return of.num_attention_heads // getattr(of, "num_key_value_heads", of.num_attention_heads)

    def width(of: Any) -> int:
        return getattr(of, "head_dim", None) or of.hidden_size // of.num_attention_heads

    assert per_group(small) == per_group(config)
    assert width(small) % 4 == 0
    assert small.num_attention_heads % (small.num_attention_heads // per_group(small)) == 0
    # Where the heads together are as wide as the model they still are, and Qwen3's twice as wide.
    assert width(small) * small.num_attention_heads / small.hidden_size == pytest.approx(
        width(config) * config.num_attention_heads / config.hidden_size
    )


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_tiny_model_trains_and_generates(name: str) -> None:
    from transformers import AutoModelForCausalLM

    from glmops.models.chatglm import register

    register()
    config = tiny(_full_size(name))
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    assert sum(each.numel() for each in model.parameters()) < 45e6  # nearly all of it vocabulary
    ids = torch.tensor([[11, 12, 13, 14]])
    if name == "chatglm-6b":
        ids = torch.tensor([[11, 12, config.gmask_token_id, config.bos_token_id]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(each.grad is not None for each in model.parameters())
    written = model.eval().generate(ids, max_new_tokens=2, do_sample=False, eos_token_id=None)
    assert written.shape == (1, 6)


def test_a_model_type_with_unknown_sizes_is_refused() -> None:
    from transformers import MixtralConfig

    with pytest.raises(RecipeError, match=r"no tiny widths .* got 'mixtral'\. Known: chatglm-6b"):
        tiny(MixtralConfig())
