"""The families' chats as Jinja templates, for other programs that ask a tokenizer for one.

``apply_chat_template(messages, tokenize=False)`` is the prompt that the original ``chat()`` shows
to its tokenizer (ChatGLM3 and GLM-4 put ids together instead: what these decode to). Ids should
come from ``chat_ids``: it keeps control tokens that a user typed plain text, adds those that the
original adds, and encodes ChatGLM3's parts one by one, as the original does.
"""

from __future__ import annotations

_ROUNDS = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'user' and loop.index0 % 2 == 0 -%}"
    "{{ '[Round ' ~ ROUND ~ ']GAP问：' ~ message.content ~ 'GAP答：' }}"
    "{%- elif message.role == 'assistant' and loop.index0 % 2 == 1 -%}"
    "{{ message.content ~ 'GAP' }}"
    "{%- else -%}"
    "{{ raise_exception('This chat is user, assistant, user, assistant …, nothing else.') }}"
    "{%- endif -%}"
    "{%- endfor -%}"
)

_TOOLS = (
    "{%- if message.role == 'system' and message.tools -%}"
    "{{ '\\n' ~ message.tools | tojson(indent=4) }}"
    "{%- endif -%}"
)

CHAT_TEMPLATES = {
    "chatglm": (
        "{%- if messages | length == 1 -%}{{ messages[0].content }}{%- else -%}"
        + _ROUNDS.replace("ROUND", "loop.index0 // 2").replace("GAP", "\\n")
        + "{%- endif -%}"
    ),
    "chatglm2": _ROUNDS.replace("ROUND", "(loop.index0 // 2 + 1)").replace("GAP", "\\n\\n"),
    "chatglm3": (
        "{{ '[gMASK]sop' }}"
        "{%- for message in messages -%}"
        "{{ '<|' ~ message.role ~ '|> ' ~ (message.metadata or '') ~ '\\n ' ~ message.content }}"
        + _TOOLS
        + "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
    ),
    "glm4": (
        "{{ '[gMASK]<sop>' }}"
        "{%- for message in messages -%}"
        "{{ '<|' ~ message.role ~ '|>' ~ (message.metadata or '') ~ '\\n' ~ message.content }}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
    ),
}
