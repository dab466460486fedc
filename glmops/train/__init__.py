"""Token ids → a trained checkpoint."""

from __future__ import annotations

from glmops.models.quantization import quieten

# The one thing that happens on import: transformers' Trainer imports peft, and that bitsandbytes,
# which says on every CPU what it did not download.
quieten()
