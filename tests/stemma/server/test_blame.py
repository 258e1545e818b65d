"""An error names the field that was sent, whatever the dialect: the one to change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model import ChatTemplate
from stemma.runtime.model.tiny import tiny
from stemma.server import ServerConfig
from tests.stemma.server.conftest import serving

HI = [{"role": "user", "content": "hi"}]
REQUESTS = [
    ("/v1/chat/completions", {"messages": HI}, "messages"),
    ("/v1/responses", {"input": "hi"}, "input"),
    ("/cache/explain", {"messages": HI}, "messages"),
    ("/tokenize", {"messages": HI}, "messages"),
]


@pytest.mark.parametrize("refuses", [False, True], ids=["no template", "a template that refuses"])
@pytest.mark.parametrize(("path", "body", "param"), REQUESTS, ids=[path for path, _, _ in REQUESTS])
async def test_what_the_template_refuses_is_said_of_the_field_that_was_sent(
    path: str, body: dict[str, Any], param: str, refuses: bool
) -> None:
    loaded = tiny(ReferenceOps(torch.device("cpu")))
    template = ChatTemplate("{{ raise_exception('not like this') }}", loaded.tokenizer) if refuses else None
    with Engine.of(replace(loaded, chat_template=template), kv_tokens=1024) as engine:
        async with serving(engine, ServerConfig()) as client:
            error = (await client.post(path, status=400, **body))["error"]
    assert error["param"] == param
    assert ("not like this" if refuses else "no chat template") in error["message"]


FORMS = [
    {"guided_regex": "("},
    {"regex": "("},
    {"grammar": "root ::= nothing"},
    {"ebnf": "root ::= nothing"},
    {"guided_json": {"type": "nothing"}},
    {"guided_grammar": "start: nothing"},
    {"structured_outputs": {"regex": "("}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nothing"}}}},
]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("form", FORMS, ids=[next(iter(form)) for form in FORMS])
async def test_what_is_wrong_with_a_form_is_said_of_the_field_that_asked_for_it(
    path: str, form: dict[str, Any], engine: Engine
) -> None:
    prompt = {"messages": HI} if "chat" in path else {"prompt": "hi"}
    async with serving(engine, ServerConfig()) as client:
        error = (await client.post(path, status=400, **prompt, **form))["error"]
    assert error["param"].split(".")[0] == next(iter(form))
