from __future__ import annotations

import torch
import toy_model as toy

from glmops.models.small import small_glm


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


def test_one_seed_gives_one_set_of_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        model = small_glm(toy.base_settings(), toy.tokenizer(), max_tokens=80, seed=seed)
        return torch.cat([each.flatten() for each in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
