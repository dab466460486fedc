"""The shape and the special ids of a ChatGLM-6B; defaults are those of the published model."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from glmops.errors import InputError


class ChatGLMConfig(PreTrainedConfig):
    """Sizes of a native ChatGLM-6B.

    ``model_type`` differs from the original's "chatglm" on purpose: that name stays the mark of a
    folder in the original format, which this class cannot read as it is.

    Attributes:
        max_position_embeddings: Longest row the model was trained on, in tokens. Nothing is cut.
        position_encoding_2d: Position and block position each turn half of a head; otherwise one
            position turns all of it.
        bos_token_id: ``<sop>``: everything before it is context, everything after it is written.
        eos_token_id: ``<eop>``.
        mask_token_id, gmask_token_id: ``[MASK]`` and ``[gMASK]``: where the answer belongs.
        mask_token_first: In a row with both, positions follow ``[MASK]``. The original's tokenizer
            does that in the batches it pads; the original's model (the default) does not.
        residual_layers: The residual is scaled by sqrt(2 * residual_layers). The original uses 28
            whatever the number of layers is.
    """

    model_type = "chatglm-6b"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012  Trainer adds a list to it

    vocab_size: int = 130528
    hidden_size: int = 4096
    intermediate_size: int = 16384
    num_hidden_layers: int = 28
    num_attention_heads: int = 32
    max_position_embeddings: int = 2048
    layer_norm_eps: float = 1e-5
    position_encoding_2d: bool = True
    pad_token_id: int | None = 3
    bos_token_id: int | None = 130004
    eos_token_id: int | list[int] | None = 130005
    mask_token_id: int = 130000
    gmask_token_id: int = 130001
    mask_token_first: bool = False
    residual_layers: int = 28
    initializer_range: float = 0.02
    use_cache: bool = True
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise InputError(
                "ChatGLMConfig.hidden_size",
                f"not a multiple of num_attention_heads ({self.num_attention_heads})",
                got=self.hidden_size,
                do="Take both from the checkpoint's own config.json.",
            )
        step = 4 if self.position_encoding_2d else 2
        if self.head_dim % step:
            raise InputError(
                "ChatGLMConfig.hidden_size",
                f"a head must be a multiple of {step} wide to be rotated",
                got=f"{self.hidden_size} / {self.num_attention_heads} = {self.head_dim}",
                do="Take both from the checkpoint's own config.json.",
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads
