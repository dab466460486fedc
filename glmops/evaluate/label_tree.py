"""Continuations of one prompt as a tree: what they begin with alike is read once.

    ["水果"]<end>        [" ─ 水 ─ 果 ─ "] ─ <end>
    ["水瓶"]<end>              └─ 瓶 ─ "] ─ <end>

A node is a token that the model reads. An edge is a token that it is asked about: from the end of
the prompt (node 0) or from a node. The last token of a continuation is asked about and never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Ids = Sequence[int]

MOST_NODES = 512
"""Of one tree: attention pays for each of them in every row."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Nodes count from 1, a parent before its children; 0 is the end of the prompt.

    Attributes:
        continuations: Places in the list that the trees were made from.
        tokens: The token of each node from 1 on.
        lines: For each node from 1 on the nodes on the way to it, itself included.
        edges: Node and token that is asked about there.
        paths: For each continuation its edges.
    """

    continuations: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    lines: list[tuple[int, ...]] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)


def trees_of(continuations: Sequence[Ids], most_nodes: int = MOST_NODES) -> Iterator[Tree]:
    """Trees that together hold every continuation once; as few as ``most_nodes`` allows.

    Args:
        continuations: Token ids, none empty.
    """
    nodes: dict[tuple[int, ...], int] = {}
    edges: dict[tuple[int, int], int] = {}
    tree = Tree()
    # In order, those that begin alike stand together, and share a tree.
    for place in sorted(range(len(continuations)), key=lambda each: list(continuations[each])):
        ids = tuple(continuations[place])
        new = sum(ids[:end] not in nodes for end in range(1, len(ids)))
        if tree.continuations and len(tree.tokens) + new > most_nodes:
            yield tree
            nodes, edges, tree = {}, {}, Tree()
        tree.continuations.append(place)
        tree.paths.append(_place(ids, tree, nodes, edges))
    if tree.continuations:
        yield tree


def _place(
    ids: tuple[int, ...],
    tree: Tree,
    nodes: dict[tuple[int, ...], int],
    edges: dict[tuple[int, int], int],
) -> list[int]:
    """Add what ``ids`` need to the tree; returns their edges."""
    path: list[int] = []
    line: tuple[int, ...] = ()
    at = 0
    for end, token in enumerate(ids, start=1):
        if (at, token) not in edges:
            edges[at, token] = len(tree.edges)
            tree.edges.append((at, token))
        path.append(edges[at, token])
        if end == len(ids):
            break
        if ids[:end] not in nodes:
            nodes[ids[:end]] = len(tree.tokens) + 1
            tree.tokens.append(token)
            tree.lines.append((*line, len(tree.tokens)))
        at = nodes[ids[:end]]
        line = tree.lines[at - 1]
    return path
