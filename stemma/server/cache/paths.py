"""The radix tree with its token ids, node by node, for programs: what `Engine.tree()` gives in the server's process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from stemma.runtime.engine.tree import TreeNode
from stemma.server.cache.view import visible_roots
from stemma.server.http.keys import Tenant


def nodes_of(roots: Sequence[TreeNode], tenant: Tenant) -> list[dict[str, Any]]:
    """The nodes that this caller may see, each behind its parent, which it names by its place in the list. Roots have a
    namespace, under the name that the caller has for it."""
    listed: list[dict[str, Any]] = []
    for root in visible_roots(roots, tenant):
        for node, parent in _walk(root, len(listed)):
            report = {name: getattr(node, name) for name in ("tokens", "blocks", "references", "hits", "idle", "marks")}
            namespace = None if node.namespace is None else tenant.own_name(node.namespace)
            listed.append({**report, "parent": parent, "namespace": namespace})
    return listed


def _walk(root: TreeNode, first: int) -> Iterator[tuple[TreeNode, int | None]]:
    """Every node with the place of its parent. first: the root's own place."""
    waiting: list[tuple[TreeNode, int | None]] = [(root, None)]
    place = first
    while waiting:
        node, parent = waiting.pop()
        yield node, parent
        waiting += [(child, place) for child in reversed(node.children)]
        place += 1
