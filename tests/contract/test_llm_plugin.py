"""Simon Willison's `llm` with our plugin, in this process; left out where `llm` is not installed."""

from __future__ import annotations

import json

import pytest

llm = pytest.importorskip("llm", reason="llm is not installed")


def test_a_prompt_a_schema_and_a_conversation() -> None:
    from stemma.llm_plugin import StemmaModel

    model = StemmaModel()
    answer = model.prompt("What is the capital of France?", max_tokens=16)
    assert "France" in answer.text()
    assert answer.usage().output <= 16
    schema = {"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"]}
    assert json.loads(model.prompt("Is Paris in France?", schema=schema).text())["answer"] in ("yes", "no")
    talk = model.conversation()
    talk.prompt("My name is Ada.", system="Be brief.", max_tokens=8).text()
    second = talk.prompt("What is my name?", max_tokens=8)
    second.text()
    assert second.usage().details["cached_tokens"] > 10


def test_the_plugin_registers_its_model() -> None:
    from stemma import llm_plugin

    registered = []
    llm_plugin.register_models(lambda model, aliases=(): registered.append(model.model_id))
    assert registered == ["stemma/smollm2"]
