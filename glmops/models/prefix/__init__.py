"""P-tuning v2, the official kind: trained keys and values in front of every layer's own.

One module for every family (docs/decisions/006-a-prefix-of-our-own.md says why peft's is not used):

    attach_prefix   a new prefix on a loaded model, whose own weights freeze
    save_prefix     the prefix as a native folder
    load_prefix     a native folder onto the model it was made for
"""

from __future__ import annotations

from glmops.models.prefix.attaching import attach_prefix
from glmops.models.prefix.files import load_prefix, save_prefix

__all__ = ["attach_prefix", "load_prefix", "save_prefix"]
