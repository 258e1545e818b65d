"""Where in the cache a request's KV stands. What one adapter computed is another's, or no adapter's, under no name: a
namespace says which adapter it is of, by its numbers, so that a saved cache is right for another engine too.

    team/salt                       computed by the model alone
    team/salt//lora:sql@0f3a...     computed with the adapter that is called sql here
    //shared, //shared//lora:...    texts that all namespaces share
"""

from __future__ import annotations

from stemma.radix import Namespace, Segments
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model import LoadedModel

MARK = "//lora:"
SHARED = "//shared"
"""No caller's namespace has the first, or begins with the second."""


def namespace_of(loaded: LoadedModel, namespace: str, lora: str | None) -> str:
    """The namespace of what is computed with this adapter. Raises InvalidRequest for an adapter that is not there, and
    for a namespace that looks like one's."""
    if MARK in namespace:
        raise InvalidRequest(f"a namespace has no {MARK!r} in it: these are the adapters'; choose another", "namespace")
    if namespace.startswith(SHARED):
        raise InvalidRequest(f"a namespace does not begin with {SHARED!r}: choose another", "namespace")
    return _with_adapter(loaded, namespace, lora)


def shared_namespace(loaded: LoadedModel, lora: str | None) -> str:
    """Where texts stand that all namespaces share. Raises InvalidRequest for an adapter that is not there."""
    return _with_adapter(loaded, SHARED, lora)


def owner_of(name: Namespace) -> str:
    """The namespace whose text it is: of what stands behind a text that all share, the private one."""
    return name.salt if isinstance(name, Segments) else name


def is_shared(namespace: str) -> bool:
    """Whether it is that of shared texts."""
    return namespace.startswith(SHARED)


def _with_adapter(loaded: LoadedModel, namespace: str, lora: str | None) -> str:
    if lora is None:
        return namespace
    digests = {} if loaded.loras is None else loaded.loras.digests
    if lora not in digests:
        there = f"there are {sorted(digests)}" if digests else "the model was loaded without any (loras={...})"
        raise InvalidRequest(f"there is no adapter {lora!r}; {there}", "lora")
    return f"{namespace}{MARK}{lora}@{digests[lora]}"
