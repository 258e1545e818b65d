"""The command line on a tiny model that lies on disk."""

from __future__ import annotations

import dataclasses
import json
import re
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from stemma import cli
from stemma.commands.served import by_name
from stemma.runtime.engine import Engine, EngineConfig
from stemma.runtime.engine.grammars import make_vocabulary
from stemma.runtime.errors import InvalidRequest, StemmaError
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.tiny import byte_tokenizer, tiny_config, tiny_tensors
from stemma.scale.spec import ScaleConfig
from stemma.server import ServerConfig


@pytest.fixture(autouse=True)
def _tiny_default(monkeypatch, tiny_loaded):
    """Commands without --model get a tiny model instead of the default one."""
    monkeypatch.setattr(cli, "make_engine", lambda *_, **__: Engine.of(tiny_loaded, kv_tokens=8192))


def invoke(*arguments: str, text: str = "") -> str:
    result = CliRunner().invoke(cli.app, arguments, input=text)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("command", ["generate", "serve", "scale"])
def test_help_says_all_that_an_option_is_for(command):
    """What its dataclass says of it, to the last line and its full stop."""
    options = {each.name: each.help for each in get_command(cli.app).commands[command].params}
    assert options["memory"] == (
        "Bytes for what models remember, of all ranks on a host; None takes an eighth of the host's memory, or "
        "`memory_share` of a GPU's."
    )
    for config in (EngineConfig, ServerConfig, ScaleConfig):
        for field in dataclasses.fields(config):
            assert options.get(field.name, ".").endswith((".", ".)", "]")), field.name


def test_generate_prints_the_text_and_the_figures_beside_it(tiny_loaded):
    with Engine.of(tiny_loaded, kv_tokens=8192) as engine:
        text = engine.generate("hello", max_tokens=4).text
    result = CliRunner().invoke(cli.app, ["generate", "hello", "--max-tokens", "4"])
    assert result.exit_code == 0
    assert result.stdout == text + "\n"
    assert result.stderr.startswith("0 cached, 5 prefilled, 4 decoded, 0 jumped")


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
    (story,) = [node for root in said["tree"] for node in root["children"] if node["text"].startswith("Once upon")]
    assert (story["hits"], len(story["children"])) == (3, 4)  # of four samples of one prompt


def test_the_demos_picture_names_what_is_shared():
    shown = invoke("demo")
    assert re.search(r"62 tokens +4 blocks +3 hits +“Once upon a time", shown)
    for beginning in ("The Harbour Lights", "Who is this about?", "system⏎You are a helpful"):
        assert f"“{beginning}" in shown


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "kind": {"const": "a rather long constant"}},
    "required": ["name", "kind"],
    "additionalProperties": False,
    "title": "T",
}


def test_schema_lint_says_what_becomes_of_each_keyword(tmp_path, monkeypatch, tiny_loaded):
    vocabulary = make_vocabulary(tiny_loaded.tokenizer, tiny_loaded.generation.eos_ids)
    monkeypatch.setattr("stemma.terminal.schema.vocabulary_of", lambda model: vocabulary)
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    said = json.loads(invoke("schema", "lint", str(path), "--json"))
    status = {(item["pointer"], item["keyword"]): item["status"] for item in said["findings"]}
    assert status["", "required"] == "enforced"
    assert status["", "title"] == "annotated"
    assert [item["pointer"] for item in said["warnings"]] == ["/properties/name"]
    assert said["costs"]["forced_share"] > 0
    assert "enforced" in invoke("schema", "lint", str(path))


def test_schema_draw_shows_that_chains_become_jumps(tmp_path):
    schema, compressed, plain = tmp_path / "schema.json", tmp_path / "compressed.svg", tmp_path / "plain.svg"
    schema.write_text(json.dumps(SCHEMA))
    invoke("schema", "draw", str(schema), "--out", str(compressed))
    invoke("schema", "draw", str(schema), "--out", str(plain), "--plain")
    nodes = [path.read_text().count("<circle") for path in (compressed, plain)]
    assert 0 < nodes[0] < nodes[1]


def test_schema_lint_of_no_schema_says_what_to_give():
    result = CliRunner().invoke(cli.app, ["schema", "lint", "nothing-there"])
    assert isinstance(result.exception, StemmaError)
    assert "module:Type" in str(result.exception)


def test_an_unknown_option_is_an_error():
    assert CliRunner().invoke(cli.app, ["generate", "hello", "--temprature", "1"]).exit_code == 2


@pytest.mark.parametrize(
    ("command", "configs"),
    [
        ("serve", (EngineConfig, ServerConfig)),
        ("chat", (EngineConfig,)),
        ("scale", (EngineConfig, ScaleConfig)),
    ],
)
def test_every_field_of_the_dataclasses_is_an_option_with_its_default(command, configs):
    options = {each.name: each for each in get_command(cli.app).commands[command].params}
    for config in configs:
        for field in dataclasses.fields(config):
            if field.name not in ("api_keys", "shared_prompts"):
                assert options[field.name].default == field.default
                assert options[field.name].help


def test_options_reach_the_engine(monkeypatch, tiny_loaded):
    taken, given = {}, []

    def engine(model, adapters, options, loras=None):
        taken.update(options)
        given.append(adapters)
        return Engine.of(tiny_loaded, kv_tokens=8192)

    monkeypatch.setattr(cli, "make_engine", engine)
    arguments = ["generate", "hi", "--max-tokens", "2", "--policy", "lru", "--device", "cpu", "--no-prefix-cache"]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    assert EngineConfig(**taken) == EngineConfig(policy="lru", device="cpu", prefix_cache=False)
    assert CliRunner().invoke(cli.app, ["generate", "hi", "--adapter", "one", "--adapter", "two"]).exit_code == 0
    assert [list(each or ()) for each in given] == [[], ["one", "two"]]
    assert CliRunner().invoke(cli.app, ["generate", "hi", "--policy", "best"]).exit_code == 2


def test_adapters_of_a_server_have_names():
    assert by_name(["sql=a/b.gguf", "x=a=b"]) == {"sql": "a/b.gguf", "x": "a=b"}
    for wrong in (["sql"], ["sql="], ["a=b", "a=c"]):
        with pytest.raises(InvalidRequest, match="NAME=SOURCE"):
            by_name(wrong)


def test_plan_tells_memory_and_roofline_of_a_model_that_is_not_loaded(monkeypatch):
    config = tiny_config("llama")
    checkpoint = Checkpoint(config, tiny_tensors(config, 0), byte_tokenizer(), GenerationDefaults((256,)))
    monkeypatch.setattr(sys.modules["stemma.runtime.model.load"], "read_checkpoint", lambda *_: checkpoint)
    asked = ("plan", "--model", "tiny", "--machine-bandwidth", "30", "--machine-compute", "600")
    said = json.loads(invoke(*asked, "--context", "256", "--concurrency", "2", "--json"))
    assert said["needed"] == 2 * 256 * said["kv_bytes"]
    assert said["rates"] == {"read": 30e9, "operations": 600e9}
    assert said["fits"] is True
    assert said["decode_one"]["by"] == "bandwidth"
    assert "Ask for at most 224 tokens of context." in " ".join(invoke(*asked, "--machine-memory", "0.001").split())
    none = " ".join(invoke(*asked, "--machine-memory", "0.0001").split())
    assert "Does not fit" in none
    assert "Take a smaller model" in none
    assert "Ask for at most" not in none
    both = json.loads(invoke(*asked, "--context", "256", "--draft", "smaller", "--json"))
    assert (both["draft"]["model"], both["draft"]["needed"]) == ("smaller", both["needed"])
    assert said["draft"] is None
    some = " ".join(invoke(*asked, "--context", "256", "--concurrency", "9999999", "--machine-memory", "1").split())
    assert re.search(r"Ask for at most [1-9][\d,]* sequences of this context\.", some)
