"""Random small ChatGLM2/3 and GLM-4 checkpoints against the naive implementation beside this."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

import naive_glm
import toy_original as toy
from deviations import note
from glmops.models import load
from glmops.models.original.importing import import_model


def _settings(seed: int) -> dict[str, Any]:
    """A random shape: heads that share keys or not, biases or not, a stretched rotation or not."""
    pick = random.Random(seed)
    groups = pick.choice([1, 2])
    return {
        **toy.LATER,
        "num_layers": pick.choice([1, 2, 3]),
        "num_attention_heads": groups * pick.choice([1, 2, 3]),
        "multi_query_group_num": groups,
        "kv_channels": pick.choice([4, 8, 12]),
        "hidden_size": pick.choice([8, 16, 20]),
        "ffn_hidden_size": pick.choice([7, 24]),
        "add_qkv_bias": pick.random() < 0.7,
        "rope_ratio": pick.choice([1, 1, 50, 500]),
        "layernorm_epsilon": pick.choice([1e-5, 1.5625e-7]),
    }


@pytest.mark.parametrize("seed", range(8))
def test_a_random_checkpoint_computes_what_the_naive_implementation_does(
    seed: int, tmp_path: Path
) -> None:
    settings = _settings(seed)
    tensors = toy.later_tensors(settings, seed)
    folder = toy.write(tmp_path / "original", settings, tensors, shards=1 + seed % 3)
    ids = torch.randint(settings["padded_vocab_size"], (9,), generator=torch.manual_seed(seed))
    arrays = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    expected = torch.from_numpy(naive_glm.logits(settings, arrays, ids.tolist()))

    model, _ = load(folder, dtype="float32", device="cpu")
    with torch.no_grad():
        found = model(input_ids=ids[None]).logits[0].double()
    # The oracle computes in float64; a dozen float32 products deep this leaves about 1e-5.
    note("chatglm2-6b", "naive loops, logits", float((found - expected).abs().max()), 1e-4)

    import_model(folder, tmp_path / "native")
    native, _ = load(tmp_path / "native", dtype="float32", device="cpu")
    with torch.no_grad():
        assert torch.equal(native(input_ids=ids[None]).logits[0].double(), found)
