"""POST /tokenize and /detokenize."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.responses import Response

from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request
from stemma.server.http.replies import json_reply
from stemma.server.status.wire import DetokenizeRequest, TokenizeRequest


async def tokenize(context: RequestContext[Service, TokenizeRequest]) -> Response:
    """The tokens of a text or a chat."""
    body, service = context.body, context.service
    service.check_model(body.model)
    tokens = await service.work(_tokens, service, body)
    answer: dict[str, Any] = {"count": len(tokens), "max_model_len": service.engine.context_length, "tokens": tokens}
    if body.return_token_strs:
        answer["token_strs"] = [service.texts.text(token) for token in tokens]
    return json_reply(answer)


def _tokens(service: Service, body: TokenizeRequest) -> list[int]:
    if (body.prompt is None) == (body.messages is None):
        raise bad_request("give prompt or messages, one of them", "prompt")
    if body.prompt is not None:
        if body.tools:
            raise bad_request("tools are for messages", "tools")
        if body.add_special_tokens:
            return service.prompter.encode_text(body.prompt) if body.prompt else list(service.tokenizer.prefix_ids)
        service.prompter.check_length(len(body.prompt), "prompt")
        return service.tokenizer.encode(body.prompt)
    return service.prompter.encode(
        body.messages or [], body.tools or [], ending="prompt" if body.add_generation_prompt else "closed"
    )


async def tokenizer_info(context: RequestContext[Service, None]) -> Response:
    """GET /tokenizer_info: what lm-eval's remote tokenizer asks before it uses the other two."""
    loaded = context.service.engine.loaded
    template = None if loaded.chat_template is None else loaded.chat_template.source
    special = {name: text for name, text in loaded.tokenizer.special_texts.items() if isinstance(text, str)}
    return json_reply({"tokenizer_class": "remote", **special, "chat_template": template})


async def tokenizer(context: RequestContext[Service, None]) -> Response:
    """What the model's tokenizer and chat template are made of, for clients that encode by themselves; and the sampling
    that counts where they ask for none."""
    service = context.service
    loaded = service.engine.loaded
    files = loaded.tokenizer_files
    answer = {
        "model": service.model_name,
        "context_length": service.engine.context_length,
        "vocab_size": loaded.tokenizer.vocab_size,
        "spec": files.spec,
        "special": dict(files.special),
        "adds_bos": files.adds_bos,
        "chat_template": files.chat_template,
        "tool_template": files.tool_template,
        "ends": loaded.generation.eos_ids,
        "sampling": service.engine.recommended,
    }
    return await service.work(json_reply, answer)


async def detokenize(context: RequestContext[Service, DetokenizeRequest]) -> Response:
    """The text of tokens, special ones by their names: what was tokenized comes back."""
    service, body = context.service, context.body
    service.check_model(body.model)
    size = service.tokenizer.vocab_size
    if any(token >= size for token in body.tokens):
        raise bad_request(f"the model has {size} tokens; one of these ids is larger", "tokens")
    text = await service.work(partial(service.tokenizer.decode, body.tokens, special=not body.skip_special_tokens))
    return json_reply({"prompt": text})
