"""The official INT8 and INT4 weights: integers, scales and values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from glmops.models.original.quantized import dequantise, unpack, unpack_int4


def test_every_byte_unpacks_to_its_two_signed_nibbles() -> None:
    # By hand, on all 256 bytes: the high nibble is the even column, 8..15 mean -8..-1.
    packed = torch.arange(-128, 128, dtype=torch.int8)[:, None]
    for byte, row in zip(range(-128, 128), unpack_int4(packed).tolist(), strict=True):
        nibbles = divmod(byte % 256, 16)
        assert row == [nibble - 16 if nibble > 7 else nibble for nibble in nibbles]


def test_float32_holds_every_product_of_an_integer_and_a_float16_scale() -> None:
    integers = torch.arange(-128, 128, dtype=torch.int8)[None]
    scales = torch.tensor([0.0, 6e-8, 0.0123, 1 / 3, 511.75, 65504.0]).half()
    found = dequantise(integers.expand(len(scales), -1), scales, 8)
    exact = scales.double().numpy()[:, None] * np.arange(-128.0, 128.0)
    assert found.dtype == torch.float32
    assert np.array_equal(found.double().numpy(), exact)
    # On a GPU the original multiplies in float16: the exact product, rounded once.
    half = dequantise(integers.expand(len(scales), -1), scales, 8, torch.float16)
    with np.errstate(over="ignore"):
        assert np.array_equal(half.numpy(), exact.astype(np.float16))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("family", ["chatglm-v1", "chatglm2"])
def test_integers_and_values_equal_the_original_bit_for_bit(
    family: str, bits: int, shared: Callable[[str], Path]
) -> None:
    folder = shared(f"reference/{family}/quant-int{bits}")
    stored = torch.load(folder / "pytorch_model.bin", weights_only=True)
    reference = load_file(folder / "reference.safetensors")
    names = [name.partition(".")[2] for name in reference if name.startswith("dequantized.")]
    assert len(names) == 4
    for name in names:
        integers = unpack(stored[name], bits)
        assert torch.equal(integers, reference[f"quantized_unpacked.{name}"])
        values = dequantise(stored[name], stored[f"{name}_scale"], bits)
        assert torch.equal(values, reference[f"dequantized.{name}"])
