"""The HTTP face: an OpenAI-compatible server over one engine. Knows nothing of the DSL.

Names are loaded when they are first used: its options are read without a server, or torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stemma.server.application import app
    from stemma.server.config import ApiKey, ServerConfig, parse_api_keys, read_api_keys
    from stemma.server.run import StemmaServer, make_server, serve

__all__ = ["ApiKey", "ServerConfig", "StemmaServer", "app", "make_server", "parse_api_keys", "read_api_keys", "serve"]

_HOMES = {
    "ApiKey": "config",
    "ServerConfig": "config",
    "StemmaServer": "run",
    "app": "application",
    "make_server": "run",
    "parse_api_keys": "config",
    "read_api_keys": "config",
    "serve": "run",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'stemma.server' has no attribute {name!r}; it has {__all__}")
    return getattr(import_module(f"stemma.server.{_HOMES[name]}"), name)
