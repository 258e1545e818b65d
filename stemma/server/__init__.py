"""The HTTP face: an OpenAI-compatible server over one engine. Knows nothing of the DSL.

Names are loaded when they are first used: its options are read without a server, or torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.lazy_names import loaded

if TYPE_CHECKING:
    from stemma.server.application import app
    from stemma.server.config import (
        ApiKey,
        ServerConfig,
        SharedPrompt,
        parse_api_keys,
        read_api_keys,
        read_shared_prompts,
    )
    from stemma.server.run import StemmaServer, make_server, serve

__all__ = [
    "ApiKey",
    "ServerConfig",
    "SharedPrompt",
    "StemmaServer",
    "app",
    "make_server",
    "parse_api_keys",
    "read_api_keys",
    "read_shared_prompts",
    "serve",
]

_HOMES = {
    "ApiKey": "stemma.server.config:ApiKey",
    "ServerConfig": "stemma.server.config:ServerConfig",
    "SharedPrompt": "stemma.server.config:SharedPrompt",
    "StemmaServer": "stemma.server.run:StemmaServer",
    "app": "stemma.server.application:app",
    "make_server": "stemma.server.run:make_server",
    "parse_api_keys": "stemma.server.config:parse_api_keys",
    "read_api_keys": "stemma.server.config:read_api_keys",
    "read_shared_prompts": "stemma.server.config:read_shared_prompts",
    "serve": "stemma.server.run:serve",
}


def __getattr__(name: str) -> object:
    return loaded(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted(__all__)
