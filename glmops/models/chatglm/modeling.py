"""ChatGLM-6B for today's transformers. Tensor names are the original checkpoint's own.

Axes: B rows, T new tokens, E hidden width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from glmops.errors import InputError
from glmops.models.chatglm.attention import ChatGLMAttention, rotation
from glmops.models.chatglm.configuration import ChatGLMConfig
from glmops.models.chatglm.generation import ChatGLMGeneration
from glmops.models.chatglm.inputs import additive, mask_and_positions


class ChatGLMMLP(nn.Module):
    """Widen, GELU (by tanh), narrow. No gate."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.intermediate_size)
        self.dense_4h_to_h = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, states_BTE: Tensor) -> Tensor:
        wide = functional.gelu(self.dense_h_to_4h(states_BTE), approximate="tanh")
        return self.dense_4h_to_h(wide)


class ChatGLMLayer(GradientCheckpointingLayer):
    """One block. What is carried past attention and MLP is their normalised input, scaled."""

    def __init__(self, config: ChatGLMConfig, layer_idx: int) -> None:
        super().__init__()
        self.carried = math.sqrt(2 * config.residual_layers)
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = ChatGLMAttention(config, layer_idx)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = ChatGLMMLP(config)

    def forward(self, states_BTE: Tensor, **kwargs: Any) -> Tensor:
        normal = self.input_layernorm(states_BTE)
        states_BTE = self.carried * normal + self.attention(normal, **kwargs)[0]
        normal = self.post_attention_layernorm(states_BTE)
        return self.carried * normal + self.mlp(normal)


class ChatGLMPreTrainedModel(PreTrainedModel):
    """What transformers has to know about both classes below."""

    config_class = ChatGLMConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _input_embed_layer = "word_embeddings"
    _no_split_modules = ["ChatGLMLayer"]  # noqa: RUF012  transformers and accelerate want lists
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {  # noqa: RUF012  transformers reads a plain dict off the class
        "hidden_states": ChatGLMLayer,
        "attentions": ChatGLMAttention,
    }


class ChatGLMModel(ChatGLMPreTrainedModel):
    """Embedding, blocks, final normalisation."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            ChatGLMLayer(config, layer_idx) for layer_idx in range(config.num_hidden_layers)
        )
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        mask_token_first: bool | Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """last_hidden_state_BTE, and the cache where one is used.

        Args:
            attention_mask: None: every token is real, left padding is context (the original's own
                rule). [B, T] integers: 0 = padding, 1 = real, or 1, 2, 3, … for packed rows.
                [B, 1, T, K] bool: True = may attend, taken as it is.
            position_ids: [B, 2, T] (or [B, T] where positions are one-dimensional); built from the
                ids where it is None.
            past_key_values: With anything in it, position_ids must be given: they follow from the
                whole row, of which input_ids then is only the end.
            use_cache: None: as the config says, but not while training.
            mask_token_first: See ``ChatGLMConfig``; here for this batch, or as a bool per row.
        Raises:
            InputError: A row lacks ``<sop>`` or a mask token, or shapes and kinds do not fit.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError(
                "ChatGLM forward", "needs input_ids or inputs_embeds", do="Give one of the two."
            )
        states_BTE = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if self.gradient_checkpointing and self.training:
            use_cache = False
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)

        mask, positions = mask_and_positions(
            input_ids,
            tuple(states_BTE.shape[:2]),
            attention_mask,
            position_ids,
            past_key_values,
            self.config,
            mask_token_first,
        )
        if mask is not None and self.config._attn_implementation == "eager":
            mask = additive(mask)
        cos_sin = rotation(positions, self.config, states_BTE.dtype)
        for layer in self.layers:
            states_BTE = layer(
                states_BTE,
                cos_sin=cos_sin,
                attention_mask=mask,
                past_key_values=past_key_values if use_cache else None,
                **kwargs,
            )
        return BaseModelOutputWithPast(
            last_hidden_state=self.final_layernorm(states_BTE),
            past_key_values=past_key_values if use_cache else None,
        )


class ChatGLMForCausalLM(ChatGLMPreTrainedModel, ChatGLMGeneration, GenerationMixin):
    """The model with its head, which is the embedding once more.

    (``GenerationMixin`` stands here again because transformers looks for it among direct parents.)
    """

    _tied_weights_keys = {"lm_head.weight": "transformer.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.transformer = ChatGLMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        mask_token_first: bool | Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """logits_BTV, and with labels_BT the loss: float32, mean over the labels that are not -100.

        A position predicts the label after it. Arguments as in ``ChatGLMModel.forward``, and:

        Args:
            logits_to_keep: Only the last so many positions (0: all), or positions as transformers'
                other models take them.
            **kwargs: ``num_items_in_batch`` divides the summed loss in place of the mean;
                ``output_hidden_states`` and ``output_attentions`` (eager only) as usual.
        """
        outputs = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            mask_token_first=mask_token_first,
            **kwargs,
        )
        kept = slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep)
        logits_BTV = self.lm_head(kept)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits_BTV, labels, self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits_BTV,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
