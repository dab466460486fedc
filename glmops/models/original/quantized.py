"""The weights of the official INT8 and INT4 releases → floating point. Pure functions of tensors.

One scale per output row. INT4 packs two columns into a byte: the even one in the high nibble, the
odd one in the low nibble, both two's-complement.
Source: ARCHITECTURE.md 1.8 of the reference data, held bit for bit by tests/models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def unpack_int4(packed_OI: Tensor) -> Tensor:
    """int8 bytes [out, in/2] → int8 integers [out, in], each from -8 to 7."""
    import torch

    # Shifts of signed bytes keep the sign: left then right isolates the low nibble with its sign.
    high_OI, low_OI = packed_OI >> 4, (packed_OI << 4) >> 4
    return torch.stack((high_OI, low_OI), dim=-1).reshape(packed_OI.shape[0], -1)


def unpack(stored_OI: Tensor, bits: int) -> Tensor:
    """The integers of a stored weight: int8 [out, in], whatever it was packed to."""
    return unpack_int4(stored_OI) if bits == 4 else stored_OI


def dequantise(
    stored_OI: Tensor, scale_O: Tensor, bits: int, dtype: torch.dtype | None = None
) -> Tensor:
    """Stored int8 weight and its row scales → weight [out, in].

    In float32 (the default) every value is exact: 8 bits of integer times 11 of scale fit. In
    float16 it is that value rounded once, which is what the original computes on a GPU.
    """
    import torch

    weight_OI = unpack(stored_OI, bits).float() * scale_O.float()[:, None]
    return weight_OI.to(dtype or torch.float32)
