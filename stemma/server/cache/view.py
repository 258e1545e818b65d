"""What a caller may see of the tree: its own part, and nothing in it that depends on others.

An admin sees all. A tenant's own nodes stand at roots of its own, or behind texts that all keys share; those are the
operator's, and how often others use them is no business of a tenant's, nor is what others do with the pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from stemma.runtime.engine.namespaces import is_shared
from stemma.runtime.engine.tree import TreeNode
from stemma.server.http.keys import Tenant

Nodes = Mapping[str, dict[str, Any]]


def visible(by_id: Nodes, tenant: Tenant) -> dict[str, dict[str, Any]]:
    """The nodes of a picture that this caller may see."""
    if tenant.is_admin:
        return dict(by_id)
    own = {name: node for name, node in by_id.items() if tenant.owns(node["namespace"])}
    shared: dict[str, dict[str, Any]] = {}
    for node in own.values():
        above = node["parent"]
        while above in by_id and above not in own:
            used = max(node.get("used", 0.0), shared.get(above, node).get("used", 0.0))
            shared[above] = {**by_id[above], "references": 0, "hits": 0, "used": used}
            above = by_id[above]["parent"]
    seen = shared | own
    return {
        name: seen[name] for name in sorted(seen, key=lambda name: (seen[name]["start"], name))
    }  # not by who came when


def visible_counters(counters: Mapping[str, Any], nodes: Nodes, tenant: Tenant) -> dict[str, Any]:
    """The counters of a picture for this caller: for a tenant, those of the nodes that it sees, and no totals."""
    if tenant.is_admin:
        return dict(counters)
    own = [node for node in nodes.values() if not is_shared(node["namespace"])]
    kept = [node for node in own if "running" not in node]
    num_leased = sum(node["blocks"] for node in kept if node["references"])
    num_cached = sum(node["blocks"] for node in kept if not node["references"])
    return {
        "running": sum("running" in node for node in own),
        "blocks_total": counters["blocks_total"],
        "blocks_free": counters["blocks_total"] - num_leased - num_cached,
        "blocks_leased": num_leased,
        "blocks_cached": num_cached,
    }


def visible_roots(roots: Sequence[TreeNode], tenant: Tenant) -> list[TreeNode]:
    """The roots of an engine's tree that this caller may see. What stands behind shared text has a root of its own,
    with that text below it; numbers of blocks are a tenant's own, for the pool's tell what others took."""
    if tenant.is_admin:
        return list(roots)
    own = [root for root in roots if tenant.owns(root.namespace or "")]
    for root in roots:
        if is_shared(root.namespace or ""):
            own += _behind_shared(root, tenant)
    numbers = count()
    return [_renumbered(root, numbers) for root in own]


def _behind_shared(root: TreeNode, tenant: Tenant) -> Iterator[TreeNode]:
    waiting: list[tuple[TreeNode, list[int]]] = [(root, [])]
    while waiting:
        node, before = waiting.pop()
        text = before + node.tokens
        tops: dict[str, list[TreeNode]] = {}
        for child in node.children:
            if child.namespace is None:
                waiting.append((child, text))
            elif tenant.owns(child.namespace):
                tops.setdefault(child.namespace, []).append(child)
        for name, children in tops.items():
            yield TreeNode([], [], 0, 0, 0.0, name, [TreeNode(text, [], 0, 0, 0.0, None, children)])


def _renumbered(node: TreeNode, numbers: Iterator[int]) -> TreeNode:
    """The same with other numbers of blocks."""
    made = replace(node, blocks=[next(numbers) for _ in node.blocks], children=[])
    waiting = [(node, made)]
    while waiting:
        old, new = waiting.pop()
        for child in old.children:
            other = replace(child, blocks=[next(numbers) for _ in child.blocks], children=[])
            new.children.append(other)
            waiting.append((child, other))
    return made
