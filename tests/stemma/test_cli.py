"""The command line on a tiny model that lies on disk."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from stemma import cli
from stemma.runtime.engine import Engine


@pytest.fixture(autouse=True)
def _tiny_default(monkeypatch, tiny_loaded):
    """Commands without --model get a tiny model instead of the default one."""
    monkeypatch.setattr(cli, "_engine", lambda model, backend: Engine.of(tiny_loaded, kv_tokens=8192))


def invoke(*arguments: str, text: str = "") -> str:
    result = CliRunner().invoke(cli.app, arguments, input=text)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_generate_prints_the_text():
    assert invoke("generate", "hello", "--max-tokens", "4")


def test_generate_as_json_says_where_the_tokens_came_from():
    said = json.loads(invoke("generate", "hello", "--max-tokens", "4", "--json"))
    assert said["usage"]["prompt_tokens"] == said["usage"]["prefilled_tokens"] == 5
    assert said["usage"]["cached_tokens"] == 0
    assert len(said["tokens"]) == said["usage"]["completion_tokens"]


def test_chat_reuses_its_past():
    lines = invoke("chat", "--max-tokens", "4", "--json", text="hello\nand again\n\n").splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first["usage"]["cached_tokens"] == 0
    assert second["usage"]["cached_tokens"] >= first["usage"]["prompt_tokens"]


def test_demo_saves_tokens_and_shows_the_tree():
    said = json.loads(invoke("demo", "--json"))
    for cached, plain in zip(said["with_cache"], said["without_cache"], strict=True):
        assert cached["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]
        assert cached["usage"]["prefilled_tokens"] < plain["usage"]["prefilled_tokens"]
        assert plain["usage"]["cached_tokens"] == 0
    assert said["tree"]


def test_the_demos_picture_names_what_is_shared():
    assert "tokens" in invoke("demo")


def test_an_unknown_option_is_an_error():
    assert CliRunner().invoke(cli.app, ["generate", "hello", "--temprature", "1"]).exit_code == 2
