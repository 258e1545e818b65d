"""A request as it comes over the wire to the tokens of its prompt, and their hashes: what it would find in a cache.

Only who routes asks. Who answers is given the tokens, and need not read the prompt again. What cannot be read here goes
to a replica all the same, whose answer says what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
from starlette.datastructures import Headers

from stemma.radix import Namespace, Segments
from stemma.runtime.engine.namespaces import MARK, SHARED
from stemma.runtime.errors import StemmaError
from stemma.runtime.model import ModelText, load_text
from stemma.runtime.model.pull import default_model
from stemma.runtime.tongues.recognise import recognise
from stemma.scale.fleet import hashes_of
from stemma.scale.ray.asked import Asked
from stemma.scale.ray.keeping import keeper_in_body, keeper_in_path, names_kept
from stemma.scale.spec import Spec
from stemma.server.anthropic.translation import as_chat as chat_of_anthropic
from stemma.server.anthropic.wire import CountTokensRequest, MessagesRequest
from stemma.server.cache.wire import PinRequest, PrefixRequest
from stemma.server.generation.chats import ending, template_values
from stemma.server.http.decoding import BodyReader
from stemma.server.http.errors import ApiError
from stemma.server.http.keys import KeyRing
from stemma.server.ollama.translation import messages_of as messages_of_ollama
from stemma.server.ollama.wire import OllamaChatRequest, OllamaGenerateRequest
from stemma.server.openai.response_input import as_chat as chat_of_response
from stemma.server.openai.wire import CompletionRequest, ResponsesRequest
from stemma.server.outputs.constraints import tool_use
from stemma.server.prompts.beginnings import beginnings
from stemma.server.prompts.prompter import ChatPrompter, Ending, of_chat
from stemma.server.prompts.readings import Reading
from stemma.server.prompts.turns import TurnMemory
from stemma.server.sglang.wire import GenerateRequest
from stemma.server.wire.chat import ChatRequest, Message
from stemma.server.wire.common import TokenId
from stemma.server.wire.tools import Tool

SESSION_HEADERS = ("x-session-id", "x-stemma-session")
REPLICA_HEADER = "x-stemma-replica"
"""In a request: the replica that it is for. In an answer: the one that gave it."""

BODIES: Mapping[str, type[Any]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/messages": MessagesRequest,
    "/v1/messages/count_tokens": CountTokensRequest,
    "/api/chat": OllamaChatRequest,
    "/api/generate": OllamaGenerateRequest,
    "/generate": GenerateRequest,
    "/cache/explain": PrefixRequest,
    "/cache/warm": PrefixRequest,
    "/cache/pin": PinRequest,
}
"""POSTs with a prompt."""
INPUT_TOKENS = "/v1/responses/input_tokens"
STATEFUL = ("/v1/responses", "/v1/conversations", "/v1/files", "/v1/batches", "/v1/chat/completions/", "/cache/")
"""Beginnings of paths whose requests need what a replica keeps."""


_Read: TypeAlias = tuple[list[int], bytes | None]
"""Tokens of a prompt, and the key of what they were read from where others need not read it again."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request, whole."""

    method: str
    path: str
    headers: Headers
    body: bytes


class PromptReader:
    """Reads requests for one model. Any thread may use it."""

    def __init__(self, text: ModelText, spec: Spec) -> None:
        self._text = text
        tongue = recognise(text.chat_template, text.tokenizer, text.generation.eos_ids)
        self._prompter = ChatPrompter(text, tongue, TurnMemory(0))
        self._keys = KeyRing(spec.server.api_keys)
        self._block_size = spec.engine.block_size
        found = [tokens for shared in spec.server.shared_prompts for tokens in beginnings(self._prompter, shared)]
        self._shared = sorted(found, key=len, reverse=True)

    def read(self, call: Call) -> Asked:
        """What a router is to know of a request."""
        to = call.headers.get(REPLICA_HEADER)
        try:
            tenant = self._keys.tenant(call.headers.get("authorization"), call.headers.get("x-api-key")).name
        except ApiError:
            return Asked(to=to)  # any replica says so
        session = next((f"{tenant}/{name}" for each in SESSION_HEADERS if (name := call.headers.get(each))), None)
        kind = BODIES.get(call.path) if call.method == "POST" else None
        if kind is None:
            asked = Asked(session=session, to=to)
            asked.kept_by = keeper_in_path(call.path) if call.path != INPUT_TOKENS else keeper_in_body(call.body)
            is_new = call.method == "POST" and call.path == "/v1/conversations"
            if asked.kept_by is None and not is_new and call.path.startswith(STATEFUL):
                asked.home = tenant
            return asked
        asked = Asked(session=session, to=to)
        try:
            body = BodyReader().decode(call.body, kind)
            if isinstance(body, ResponsesRequest):
                asked.kept_by = keeper_in_body(call.body)
            asked.home = tenant if asked.kept_by is None and _needs_home(body) else None
            tokens, key = self._tokens(body)
            asked.hashes = hashes_of(tokens, self._namespace(tokens, tenant, body), self._block_size)
        except (ApiError, StemmaError, msgspec.ValidationError):
            return asked
        asked.prompt_len = len(tokens)
        asked.reading = None if key is None else Reading.of(key, tokens)
        named = _session(call.body) if session is None else None
        asked.session = session if named is None else f"{tenant}/{named}"
        return asked

    def _tokens(self, body: Any) -> _Read:
        """A request's prompt; of several the first one. Raises ApiError or StemmaError."""
        match body:
            case ChatRequest():
                return self._chat(body)
            case ResponsesRequest():
                return self._chat(chat_of_response(body, BodyReader()))
            case CountTokensRequest():  # MessagesRequest is one
                return self._chat(chat_of_anthropic(body))
            case CompletionRequest():
                return (body.prompt_token_ids, None) if body.prompt_token_ids else self._plain(body.prompt)
            case GenerateRequest():
                return self._of_sglang(body)
            case OllamaChatRequest():
                return self._of_messages(messages_of_ollama(body.messages or []))
            case OllamaGenerateRequest():
                return self._of_ollama(body)
            case _:
                return self._of_prefix(body)

    def _chat(self, body: ChatRequest) -> _Read:
        if body.prompt_token_ids is not None:
            return body.prompt_token_ids, None
        return self._of_messages(body.messages, tool_use(body).offered, template_values(body), ending(body))

    def _of_messages(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), values: Mapping[str, Any] | None = None,
        end: Ending = "prompt",
    ) -> _Read:  # fmt: skip
        tokens = self._prompter.encode(messages, tools, values, end)
        return tokens, self._prompter.readings.key(*of_chat(messages, tools, values, end))

    def _plain(self, prompt: str | Sequence[Any] | None) -> _Read:
        """A text, token ids, or the first of a list of such."""
        if prompt and not isinstance(prompt, str) and not isinstance(prompt[0], int):
            prompt = prompt[0]
        if isinstance(prompt, str):
            return self._prompter.encode_text(prompt), self._prompter.readings.key(prompt)
        return msgspec.convert(prompt or [], list[TokenId]), None

    def _of_sglang(self, body: GenerateRequest) -> _Read:
        if not body.text:
            return self._plain(body.input_ids)
        text = body.text if isinstance(body.text, str) else body.text[0]
        return self._text.tokenizer.encode_trusted_prompt(text), None

    def _of_ollama(self, body: OllamaGenerateRequest) -> _Read:
        if body.raw:
            return self._text.tokenizer.encode_trusted_prompt(body.prompt or ""), None
        system = [Message(role="system", content=body.system)] if body.system else []
        return self._of_messages([*system, Message(role="user", content=body.prompt or "")])

    def _of_prefix(self, body: PrefixRequest) -> _Read:
        if body.messages is None:
            return self._plain(body.prompt if body.prompt is not None else body.tokens)
        end: Ending = "prompt" if body.add_generation_prompt else "closed"
        return self._of_messages(body.messages, body.tools or [], body.chat_template_kwargs, end)

    def _namespace(self, tokens: Sequence[int], tenant: str, body: Any) -> Namespace:
        """Where in a cache the prompt stands: as `Engine` puts it."""
        salt = getattr(body, "cache_salt", None)
        own = f"{tenant}/{salt}" if salt else tenant
        lora = getattr(body, "model", None) or ""
        behind = f"{MARK}{lora}@{self._text.digests[lora]}" if lora in self._text.digests else ""
        found = next((text for text in self._shared if list(tokens[: len(text)]) == text), None)
        return own + behind if found is None else Segments(SHARED + behind, len(found), own + behind)


def make_reader(spec: Spec) -> PromptReader:
    """For the model of a deployment, whose weights are not read."""
    source = default_model() if spec.model is None else spec.model
    text = load_text(source, loras=spec.loras, context_length=spec.engine.context_length)
    return PromptReader(text, spec)


def _needs_home(body: Any) -> bool:
    """Whether the answer goes on from what nobody says who keeps, or is kept and will be asked for in a list."""
    if isinstance(body, ResponsesRequest):
        return names_kept(body)
    return isinstance(body, ChatRequest) and bool(body.store)


def _session(body: bytes) -> str | None:
    """OpenAI's name for what belongs together."""
    if b'"prompt_cache_key"' not in body:
        return None
    name = json.loads(body).get("prompt_cache_key")
    return name if isinstance(name, str) and name else None
