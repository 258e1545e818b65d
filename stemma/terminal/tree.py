"""The cache's tree as a picture for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rich.text import Text
from rich.tree import Tree

from stemma.runtime.engine.tree import TreeNode

Decode = Callable[[list[int]], str]

EXCERPT = 48
"""Characters of a node's text that are shown."""


def draw(roots: Iterable[TreeNode], decode: Decode, max_children: int = 12) -> Tree:
    """A rich Tree: each line an edge with its tokens, blocks, references and the beginning and end of its text."""
    picture = Tree(Text("radix tree", style="bold"))
    for root in roots:
        name = f"namespace {root.namespace!r}" if root.namespace else "root"
        _grow(picture.add(Text(name, style="dim")), root, decode, max_children)
    return picture


def _grow(branch: Tree, node: TreeNode, decode: Decode, max_children: int) -> None:
    largest_first = sorted(node.children, key=lambda child: -child.num_tokens)
    for child in largest_first[:max_children]:
        _grow(branch.add(_label(child, decode)), child, decode, max_children)
    if len(largest_first) > max_children:
        rest = largest_first[max_children:]
        branch.add(Text(f"... {len(rest)} more, {sum(child.num_tokens for child in rest)} tokens", style="dim"))


def _label(node: TreeNode, decode: Decode) -> Text:
    label = Text()
    label.append(f"{len(node.tokens):>5} tokens", style="bold cyan")
    label.append(f"  {len(node.blocks):>3} blocks", style="green")
    label.append(f"  {node.hits:>3} hits", style="yellow")
    if node.references:
        label.append(f"  {node.references} refs", style="magenta")
    label.append(f"  {excerpt(decode(node.tokens))}", style="default")
    return label


def excerpt(text: str) -> str:
    """Text on one line, its middle left out if it is long."""
    line = text.replace("\n", "⏎")
    if len(line) <= EXCERPT:
        return f"“{line}”"
    half = EXCERPT // 2
    return f"“{line[:half]} … {line[-half:]}”"


def as_json(roots: Iterable[TreeNode], decode: Decode) -> list[dict[str, Any]]:
    """The same as plain values."""
    return [
        {
            "namespace": node.namespace,
            "num_tokens": len(node.tokens),
            "blocks": node.blocks,
            "references": node.references,
            "hits": node.hits,
            "idle_seconds": round(node.idle, 3),
            "text": decode(node.tokens),
            "children": as_json(node.children, decode),
        }
        for node in roots
    ]
