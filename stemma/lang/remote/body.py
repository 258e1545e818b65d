"""A request's options as the body of POST /v1/completions. What a server cannot be told is refused, never dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from stemma.fsm.choices import Choices
from stemma.fsm.ebnf import EBNF
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.languages.forms import Form
from stemma.fsm.lark import Lark
from stemma.fsm.regex import Regex
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.engine import RequestOptions
from stemma.runtime.engine.options import checked_options, token_ids
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.tongues.answer_grammar import AnswerGrammar

DEFAULT_MAX_TOKENS = 128
NAMES = {
    "namespace": "cache_salt",
    "lora": "model",
    "priority": "priority",
    "ttft_ms": "ttft_ms",
    "next_use": "next_use",
    "drafts": "drafts",
    "prompt_logprobs": "prompt_logprobs",
    "scored_from": "scored_from",
    "finish_in_time": "finish_in_time",
    "shown_tokens": "shown_token_ids",
}
"""What the server calls these options."""


def body_of(prompt: Sequence[int], options: RequestOptions) -> dict[str, Any]:
    """Raises InvalidRequest for an option that cannot be met over HTTP."""
    options, sampling = checked_options(options)
    if options.get("pooling") is not None:
        raise InvalidRequest("pooling is not sent to a server: ask its /v1/embeddings or /v1/score", "pooling")
    max_tokens = options.get("max_tokens")
    body: dict[str, Any] = {
        "prompt_token_ids": token_ids(prompt).tolist(),
        "max_tokens": DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens,
        **_sampling(sampling),
    }
    for option, name in NAMES.items():
        if (value := options.get(option)) is not None:
            body[name] = value
    grammar = options.get("grammar")
    return body if grammar is None else {**body, **_grammar(grammar)}


def _sampling(sampling: Sampling) -> dict[str, Any]:
    named = {field.name: getattr(sampling, field.name) for field in fields(Sampling)}
    named["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return {name: value for name, value in named.items() if value not in (None, (), {})}


def _calling(spec: AnswerGrammar) -> dict[str, Any]:
    for function in spec.functions:
        if function.arguments != JSONSchema(dict(function.schema)):
            raise InvalidRequest(f"the form of {function.name} cannot be sent to a server", "grammar")
    tools = [
        {"type": "function", "function": {"name": function.name, "parameters": dict(function.schema)}}
        for function in spec.functions
    ]
    return {"tools": tools, "max_calls": spec.max_calls, "required": spec.otherwise == "nothing"}


def _grammar(spec: Any) -> dict[str, Any]:
    if isinstance(spec, AnswerGrammar):
        bound: dict[str, Any] = {} if isinstance(spec.otherwise, str) else _grammar(spec.otherwise)
        return {**bound, "behind_thoughts": True} if not spec.functions else {**bound, "calling": _calling(spec)}
    match spec.spec if isinstance(spec, Form) else spec:
        case Regex(pattern=pattern):
            return {"regex": pattern}
        case Choices(values=values):
            return {"structured_outputs": {"choice": list(values)}}
        case EBNF(text=text, root="root") | Lark(text=text, start="start"):
            return {"grammar": text}
        case JSONSchema(schema=schema) as form if form == JSONSchema(schema):
            return {"response_format": {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}}
    raise InvalidRequest(f"this grammar cannot be sent to a server: {spec!r:.80}", "grammar")
