"""The cache's tree as a picture for a terminal: of this process's engine, or of a server's report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text
from rich.tree import Tree

from stemma.runtime.engine.tree import TreeNode

Decode = Callable[[list[int]], str]

EXCERPT = 48
"""Characters of a node's text that are shown."""

MAX_MARKS = 4


@dataclass(slots=True)
class Branch:
    """A node as it is drawn. running: it is a sequence under way, not yet in the tree."""

    num_tokens: int
    num_blocks: int
    hits: int
    references: int
    text: str
    running: bool = False
    marks: list[int] = field(default_factory=list)
    children: list[Branch] = field(default_factory=list)

    @property
    def weight(self) -> int:
        """Tokens of this node and everything below it."""
        return self.num_tokens + sum(child.weight for child in self.children)


def of_engine(roots: Iterable[TreeNode], decode: Decode) -> dict[str, list[Branch]]:
    """Branches by namespace, from `Engine.tree()`."""
    return {root.namespace or "": [_of_node(child, decode) for child in root.children] for root in roots}


def _of_node(node: TreeNode, decode: Decode) -> Branch:
    children = [_of_node(child, decode) for child in node.children]
    return Branch(
        len(node.tokens), len(node.blocks), node.hits, node.references, decode(node.tokens), marks=node.marks,
        children=children,
    )  # fmt: skip


def of_report(report: Mapping[str, Any]) -> dict[str, list[Branch]]:
    """Branches by namespace, from a server's /cache/tree."""
    made: dict[str, Branch] = {}
    for node in report["nodes"]:
        running = "running" in node
        counts = (node["tokens"], node.get("blocks", 0), node.get("hits", 0), node.get("references", 0))
        made[node["id"]] = Branch(*counts, node["text"], running, list(node.get("marks", ())))
    roots: dict[str, list[Branch]] = {}
    for node in report["nodes"]:
        parent = made.get(node["parent"])
        siblings = roots.setdefault(node["namespace"], []) if parent is None else parent.children
        siblings.append(made[node["id"]])
    return roots


def draw(roots: Mapping[str, list[Branch]], max_children: int = 12) -> Tree:
    """A rich Tree: each line an edge with its tokens, blocks, hits, references and an excerpt of its text."""
    picture = Tree(Text("radix tree", style="bold"))
    for namespace, branches in roots.items():
        name = Text(f"namespace {namespace!r}" if namespace else "root", style="dim")
        _grow(picture.add(name), branches, max_children)
    return picture


def _grow(picture: Tree, branches: list[Branch], max_children: int) -> None:
    largest_first = sorted(branches, key=lambda branch: -branch.weight)
    for branch in largest_first[:max_children]:
        _grow(picture.add(_label(branch)), branch.children, max_children)
    if len(largest_first) > max_children:
        rest = largest_first[max_children:]
        tokens = sum(branch.weight for branch in rest)
        picture.add(Text(f"... {len(rest)} more, {tokens} tokens", style="dim"))


def _label(branch: Branch) -> Text:
    label = Text()
    label.append(f"{branch.num_tokens:>5} tokens", style="bold cyan")
    if branch.running:
        label.append("  running", style="bold magenta")
    else:
        label.append(f"  {branch.num_blocks:>3} blocks", style="green")
        label.append(f"  {branch.hits:>3} hits", style="yellow")
    if branch.references:
        label.append(f"  {branch.references} refs", style="magenta")
    if branch.marks:
        label.append(f"  marks at {', '.join(map(str, branch.marks[:MAX_MARKS]))}", style="blue")
        label.append(", ..." if len(branch.marks) > MAX_MARKS else "", style="blue")
    label.append(f"  {excerpt(branch.text)}", style="default")
    return label


def excerpt(text: str) -> str:
    """Text on one line, its middle left out if it is long."""
    line = text.replace("\n", "⏎")
    if len(line) <= EXCERPT:
        return f"“{line}”"
    half = EXCERPT // 2
    return f"“{line[:half]} … {line[-half:]}”"


def as_json(roots: Iterable[TreeNode], decode: Decode) -> list[dict[str, Any]]:
    """An engine's tree as plain values."""
    return [
        {
            "namespace": node.namespace,
            "num_tokens": len(node.tokens),
            "blocks": node.blocks,
            "references": node.references,
            "hits": node.hits,
            "idle_seconds": round(node.idle, 3),
            "marks": node.marks,
            "text": decode(node.tokens),
            "children": as_json(node.children, decode),
        }
        for node in roots
    ]
