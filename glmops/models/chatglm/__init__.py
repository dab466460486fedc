"""ChatGLM-6B as a native model of transformers. Importing this loads no torch."""

from __future__ import annotations


def register() -> None:
    """Make transformers' Auto classes know ``chatglm-6b``. Calling it again changes nothing."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from glmops.models.chatglm.configuration import ChatGLMConfig
    from glmops.models.chatglm.modeling import ChatGLMForCausalLM, ChatGLMModel

    AutoConfig.register(ChatGLMConfig.model_type, ChatGLMConfig, exist_ok=True)
    AutoModel.register(ChatGLMConfig, ChatGLMModel, exist_ok=True)
    AutoModelForCausalLM.register(ChatGLMConfig, ChatGLMForCausalLM, exist_ok=True)
