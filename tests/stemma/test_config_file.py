"""`stemma serve --config`: what a file says, what the command line says before it, and what is wrong in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stemma import cli
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.server import ApiKey, ServerConfig, SharedPrompt
from stemma.terminal.config_file import read_serve_file

WHOLE = """
model = "model.gguf"
draft = "small.gguf"
adapters = ["one", "two"]
port = 9000
policy = "lru"
cors_origins = ["https://a.example"]
api_keys = [{name = "alice", key = "ka"}, {name = "root", key = "kr", is_admin = true}]

[engine]
kv_tokens = 100_000
prefix_cache = false

[server]
vllm_metric_names = true
shutdown_seconds = 3

[loras]
sql = "adapters/sql"

[[shared_prompts]]
name = "rules"
system = "Be kind."
tools = [{type = "function", function = {name = "look"}}]
"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tiny_loaded: Any) -> list[Any]:
    """What `stemma serve` would have served: model, adapters, options, loras, draft; then the configuration."""
    told: list[Any] = []

    def engine(*given: Any) -> Engine:
        told.extend(given)
        return Engine.of(tiny_loaded, kv_tokens=256)

    monkeypatch.setattr(cli, "make_engine", engine)
    monkeypatch.setattr("stemma.server.run.serve", lambda engine, config: told.append(config))
    return told


def serve(tmp_path: Path, text: str, *arguments: str) -> Any:
    path = tmp_path / "stemma.toml"
    path.write_text(text)
    return CliRunner().invoke(cli.app, ["serve", "--config", str(path), *arguments])


def test_a_file_says_all_that_the_command_line_can_say(tmp_path: Path, served: list[Any]) -> None:
    result = serve(tmp_path, WHOLE)
    assert result.exit_code == 0, result.output
    model, adapters, options, loras, draft, config = served
    assert (model, list(adapters), loras) == ("model.gguf", ["one", "two"], {"sql": "adapters/sql"})
    assert draft == "small.gguf"
    assert (options["kv_tokens"], options["policy"], options["prefix_cache"]) == (100_000, "lru", False)
    tool = {"type": "function", "function": {"name": "look"}}
    wanted = ServerConfig(
        port=9000, cors_origins=("https://a.example",), vllm_metric_names=True, shutdown_seconds=3.0,
        api_keys=(ApiKey("alice", "ka"), ApiKey("root", "kr", is_admin=True)),
        shared_prompts=(SharedPrompt("rules", system="Be kind.", tools=(tool,)),),
    )  # fmt: skip
    assert config == wanted


def test_the_command_line_goes_before_the_file(tmp_path: Path, served: list[Any]) -> None:
    arguments = ["--port", "9001", "--model", "other.gguf", "--prefix-cache", "--api-key", "bob:kb", "--lora", "it=x"]
    assert serve(tmp_path, WHOLE, *arguments).exit_code == 0
    model, _, options, loras, _, config = served
    assert (model, loras, config.port, options["prefix_cache"]) == ("other.gguf", {"it": "x"}, 9001, True)
    assert config.api_keys == (ApiKey("bob", "kb"),)
    assert options["kv_tokens"] == 100_000


def test_without_a_file_everything_is_as_it_was(served: list[Any]) -> None:
    assert CliRunner().invoke(cli.app, ["serve"]).exit_code == 0
    assert served[-1] == ServerConfig()


WRONG = [
    ("prot = 8000", "port"),
    ("kv-tokens = 10", "kv_tokens"),
    ("port = 'high'", "whole number"),
    ("policy = 'best'", "'lru'"),
    ("[engine]\nport = 1", "'port'"),
    ("[servr]\nport = 1", "server"),
    ("port = 1\n[server]\nport = 2", "twice"),
    ("engine = 1", "table"),
    ("[[api_keys]]\nname = 'a'\nkey = 'b'\nadmin = true", "is_admin"),
    ("api_keys = ['alice']", "NAME:KEY"),
    ("[loras]\nsql = 1", "loras"),
    ("[[shared_prompts]]\nsytem = 'x'", "system"),
    ("port = ", "TOML"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "stemma.toml"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=message):
        read_serve_file(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_serve_file(tmp_path / "none.toml")
