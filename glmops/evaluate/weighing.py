"""How likely a model finds given continuations of its prompts, many of them in one forward pass.

A batch of prompts and the tree of all continuations go through the model as one row each: a node of
the tree sees the prompt and the nodes on the way to it, and stands where it would stand if only its
own continuation followed. A prompt is thus read once, whatever the number of continuations, and no
cache has to be kept or copied.

Axes: B rows, P tokens of the padded prompts, N nodes, T = P + N, E edges, C continuations,
V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from glmops.evaluate.label_tree import Tree, trees_of
from glmops.evaluate.sight import OWN_LAYOUT, UNCACHED, prompt_layout, seeing, sees_trees
from glmops.models.generation import left_padded

Ids = Sequence[int]

LEAST_CACHED = 4
"""Tokens that prompts begin with alike, below which a pass of their own does not pay."""
LOGITS_AT_ONCE = {"cpu": 2**23, "cuda": 2**28}
"""Numbers that one forward pass may give, by the kind of device: a processor is quickest with what
its caches hold, 32 MiB, and a GPU with many rows, 1 GiB."""
NORMALISED_AT_ONCE = 2**19
"""Numbers of which the logarithm of the sum is taken at once: its copies, 2 MiB each, stay in the
processor's own cache, which halves its time."""


def weigh(model: Any, prompts: Sequence[Ids], continuations: Sequence[Ids], *, pad: int) -> Tensor:
    """log_probability_BC: of each whole continuation after each prompt; nats, float64, on the CPU.

    Args:
        prompts: Token ids, none empty; they are padded on the left.
        continuations: Token ids, none empty. The last is an end token where the end counts.
        pad: Any id; the mask hides it.
    """
    model.eval()
    weights_BC = torch.empty(len(prompts), len(continuations), dtype=torch.float64)
    with torch.inference_mode():
        if not sees_trees(model):
            for place, ids in enumerate(continuations):
                weights_BC[:, place] = _by_whole_rows(model, prompts, ids, pad)
            return weights_BC
        for tree in trees_of(continuations):
            weights_BC[:, tree.continuations] = _by_tree(model, prompts, tree, pad)
    return weights_BC


def _by_tree(model: Any, prompts: Sequence[Ids], tree: Tree, pad: int) -> Tensor:
    paths_EC = torch.zeros(len(tree.edges), len(tree.paths), dtype=torch.float64)
    for place, path in enumerate(tree.paths):
        paths_EC[path, place] = 1.0
    nodes_E, tokens_E = (
        torch.tensor(each, device=model.device) for each in zip(*tree.edges, strict=True)
    )
    cached = _alike(model, prompts)
    head = _read(model, prompts[0][:cached]) if cached else None
    parts = []
    for some in _few(model, prompts, len(tree.tokens) + 1):
        logits_BNV = _tree_logits(model, [prompt[cached:] for prompt in some], tree, pad, head)
        said_BE = logits_BNV[:, nodes_E, tokens_E].float() - _normalisers(logits_BNV)[:, nodes_E]
        parts.append(said_BE.double().cpu() @ paths_EC)
    return torch.cat(parts)


def _tree_logits(
    model: Any, prompts: Sequence[Ids], tree: Tree, pad: int, head: Any | None
) -> Tensor:
    """logits_BNV at the end of the prompt and at each node, behind the cached ``head``."""
    ids_BP, real_BP = left_padded(prompts, pad)
    rows, width = ids_BP.shape
    cached = head.get_seq_length() if head else 0
    nodes = len(tree.tokens)
    tokens_BN = torch.tensor(tree.tokens, dtype=torch.long).expand(rows, nodes)
    depths_N = torch.tensor([len(line) for line in tree.lines], dtype=torch.long)
    context_BPP, positions = prompt_layout(model.config, ids_BP, real_BP, depths_N)
    sees_BTK = torch.zeros(rows, width + nodes, cached + width + nodes, dtype=torch.bool)
    sees_BTK[:, :, :cached] = True
    sees_BTK[:, :width, cached : cached + width] = context_BPP
    sees_BTK[:, width:, cached : cached + width] = real_BP[:, None, :].bool()
    for node, line in enumerate(tree.lines):
        sees_BTK[:, width + node, [cached + width + each - 1 for each in line]] = True
    cache = {}
    if head:
        cache["past_key_values"] = deepcopy(head)
        cache["past_key_values"].batch_repeat_interleave(rows)
    with seeing(model, sees_BTK[:, None].to(model.device)) as mask:
        return model(
            input_ids=torch.cat((ids_BP, tokens_BN), 1).to(model.device),
            position_ids=(positions + cached).to(model.device),
            use_cache=bool(cached),
            logits_to_keep=nodes + 1,
            **mask,
            **cache,
        ).logits


def _alike(model: Any, prompts: Sequence[Ids]) -> int:
    """How many tokens all prompts begin with alike, their last ones aside; 0 if few."""
    if model.config.model_type in UNCACHED:
        return 0
    in_order = sorted(list(prompt) for prompt in prompts)  # all others lie between first and last
    pairs = zip(in_order[0], in_order[-1], strict=False)
    most = min(map(len, prompts)) - 1
    alike = next((place for place, (a, b) in enumerate(pairs) if a != b or place == most), most)
    return alike if alike >= LEAST_CACHED else 0


def _read(model: Any, ids: Ids) -> Any:
    """The cache of ``ids``, of one row."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    ids_1T = torch.tensor([list(ids)], device=model.device)
    positions_1T = torch.arange(len(ids), device=model.device)[None]
    model(
        input_ids=ids_1T,
        position_ids=positions_1T,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return cache


def _by_whole_rows(model: Any, prompts: Sequence[Ids], ids: Ids, pad: int) -> Tensor:
    """log_probability_B of one continuation, which every row reads behind its prompt."""
    parts = []
    for some in _few(model, prompts, len(ids)):
        rows = [[*prompt, *ids[:-1]] for prompt in some]
        ids_BT, real_BT = left_padded(rows, pad)
        given = {"input_ids": ids_BT, "attention_mask": real_BT}
        if model.config.model_type != OWN_LAYOUT and "position_ids" in _arguments(model):
            given["position_ids"] = (real_BT.cumsum(-1) - 1).clamp(min=0)
        keeps = {"logits_to_keep": len(ids)} if "logits_to_keep" in _arguments(model) else {}
        inputs = {name: value.to(model.device) for name, value in given.items()}
        logits_BLV = model(**inputs, **keeps).logits[:, -len(ids) :]
        tokens_BL = torch.tensor(ids, device=model.device).expand(len(some), -1)
        said_BL = logits_BLV.gather(-1, tokens_BL[..., None])[..., 0].float()
        said_BL -= _normalisers(logits_BLV)
        parts.append(said_BL.double().sum(-1).cpu())
    return torch.cat(parts)


def _arguments(model: Any) -> frozenset[str]:
    return frozenset(inspect.signature(model.forward).parameters)


def _normalisers(logits_BLV: Tensor) -> Tensor:
    """log_sum_BL: what the logits of a place lie above their log-probabilities; nats, float32."""
    rows, places, vocabulary = logits_BLV.shape
    at_once = max(1, NORMALISED_AT_ONCE // vocabulary) if logits_BLV.is_cpu else rows * places
    parts = torch.split(logits_BLV.reshape(-1, vocabulary), at_once)
    return torch.cat([part.float().logsumexp(-1) for part in parts]).view(rows, places)


def _few(model: Any, prompts: Sequence[Ids], places: int) -> Iterator[Sequence[Ids]]:
    """Parts of the prompts, each with at most LOGITS_AT_ONCE logits at so many places of a row."""
    most = LOGITS_AT_ONCE.get(model.device.type, LOGITS_AT_ONCE["cpu"])
    rows = max(1, most // (places * model.config.vocab_size))
    for start in range(0, len(prompts), rows):
        yield prompts[start : start + rows]
