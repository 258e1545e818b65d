"""The HTTP face: an OpenAI-compatible server over one engine. Knows nothing of the DSL."""

from stemma.server.app import app
from stemma.server.config import ApiKey, ServerConfig, parse_api_keys, read_api_keys
from stemma.server.run import StemmaServer, make_server, serve

__all__ = ["ApiKey", "ServerConfig", "StemmaServer", "app", "make_server", "parse_api_keys", "read_api_keys", "serve"]
