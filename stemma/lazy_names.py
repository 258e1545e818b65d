"""Names of a package that are loaded when they are first used, for packages whose own import is to cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module


def loaded(package: str, homes: Mapping[str, str], name: str) -> object:
    """What a package's `__getattr__` answers. homes: `module:attribute`, or a module, by name.

    Raises AttributeError for another name, saying which there are.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {sorted(homes)}")
    module, _, attribute = homes[name].partition(":")
    home = import_module(module)
    return getattr(home, attribute) if attribute else home
