"""What Ollama's clients ask of models: which there are, which are loaded, what they are; and what would change that."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import Response

from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import ApiError, bad_request
from stemma.server.http.replies import LINES, EventReply, json_reply, line
from stemma.server.ollama.answers import timestamp
from stemma.server.ollama.translation import model_of
from stemma.server.ollama.wire import OllamaCopyRequest, OllamaShowRequest, OllamaTransferRequest

API_VERSION = "0.24.0"
"""The version of Ollama whose API this is: clients want one that is new enough for what they use."""

FOR_EVER = 9_999_999_999
"""Unix time at which a model that is never unloaded is."""

LATEST = ":latest"


async def version(context: RequestContext[Service, None]) -> Response:
    """GET /api/version."""
    return json_reply({"version": API_VERSION})


async def tags(context: RequestContext[Service, None]) -> Response:
    """GET /api/tags: the model and its adapters."""
    service = context.service
    models = [
        {**_head(service, name), "modified_at": timestamp(service.started), "capabilities": capabilities(service)}
        for name in (service.model_name, *service.loras)
    ]
    return json_reply({"models": models})


async def processes(context: RequestContext[Service, None]) -> Response:
    """GET /api/ps: all of them are loaded, and stay so."""
    service = context.service
    is_on_device = service.engine.loaded.model.ops.free_memory() is not None
    beside = {"expires_at": timestamp(FOR_EVER), "context_length": service.engine.context_length}
    models = []
    for name in (service.model_name, *service.loras):
        head = _head(service, name)
        models.append({**head, **beside, "size_vram": head["size"] if is_on_device else 0})
    return json_reply({"models": models})


async def show(context: RequestContext[Service, OllamaShowRequest]) -> Response:
    """POST /api/show: all that is known of a model."""
    service, body = context.service, context.body
    name = model_of(context, body.model or body.name or "")
    loaded = service.engine.loaded
    template = "" if loaded.chat_template is None else loaded.chat_template.source
    parameters = _parameters(service)
    report = {
        "modelfile": _modelfile(service.name_of(name), parameters),
        "parameters": parameters,
        "template": template,
        "details": details(service, service.name_of(name)),
        "model_info": _model_info(service),
        "capabilities": capabilities(service),
        "modified_at": timestamp(service.started),
    }
    return json_reply(report)


def capabilities(service: Service) -> list[str]:
    """What may be asked of the model."""
    loaded, can = service.engine.loaded, ["completion"]
    if loaded.embedding is not None:
        can = ["embedding"]
    elif loaded.chat_template is not None:
        can.append("tools")
        if service.prompter.tongue.reasoning is not None:
            can.append("thinking")
    return can


def details(service: Service, name: str) -> dict[str, Any]:
    """What kind of model it is."""
    loaded = service.engine.loaded
    return {
        "parent_model": service.model_name if name in service.loras else "",
        "format": loaded.stored.form,
        "family": loaded.config.family,
        "families": [loaded.config.family],
        "parameter_size": human_number(loaded.stored.num_parameters),
        "quantization_level": loaded.stored.type,
        "context_length": service.engine.context_length,
        "embedding_length": loaded.config.hidden,
    }


def human_number(count: int) -> str:
    """As Ollama writes numbers of parameters: 134.52M, 8.0B."""
    for size, letter, places in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if count >= size:
            return f"{count / size:.{places}f}{letter}"
    return str(count)


def tagged(name: str) -> str:
    """A name as Ollama lists it: with a tag."""
    return name if ":" in name else name + LATEST


def _head(service: Service, name: str) -> dict[str, Any]:
    loaded = service.engine.loaded
    told = tagged(name)
    digest = hashlib.sha256(f"{name}\n{loaded.config!r}\n{loaded.stored!r}".encode()).hexdigest()
    return {
        "name": told,
        "model": told,
        "size": loaded.stored.num_bytes,
        "digest": digest,
        "details": details(service, name),
    }


def _parameters(service: Service) -> str:
    """The sampling that the model's files recommend, a line each, as in a Modelfile."""
    names = {"repetition_penalty": "repeat_penalty"}
    recommended = service.engine.recommended.items()
    return "\n".join(f"{names.get(name, name):<30} {value}" for name, value in recommended)


def _modelfile(name: str, parameters: str) -> str:
    lines = [f"PARAMETER {' '.join(each.split())}" for each in parameters.splitlines()]
    return "\n".join(["# What a Modelfile would say of this model", f"FROM {name}", *lines, ""])


def _model_info(service: Service) -> dict[str, Any]:
    """Sizes, under GGUF's names."""
    loaded = service.engine.loaded
    config, tokenizer = loaded.config, loaded.tokenizer
    own = {
        "block_count": config.num_layers,
        "context_length": service.engine.context_length,
        "embedding_length": config.hidden,
        "feed_forward_length": config.intermediate,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.key_length": config.head_dim,
        "rope.freq_base": config.rope.theta,
        "vocab_size": config.vocab_size,
    }
    return {
        "general.architecture": config.family,
        "general.basename": loaded.name,
        "general.parameter_count": loaded.stored.num_parameters,
        **{f"{config.family}.{name}": value for name, value in own.items()},
        "tokenizer.ggml.bos_token_id": tokenizer.bos_id,
        "tokenizer.ggml.eos_token_id": next(iter(loaded.generation.eos_ids), None),
    }


# What would change which models there are ----------------------------------------------------------------
async def pull(context: RequestContext[Service, OllamaTransferRequest]) -> Response:
    """POST /api/pull: what is served is there; nothing else is fetched."""
    body, service = context.body, context.service
    try:
        model_of(context, body.model or body.name or "")
    except ApiError as error:
        if error.status == 404:
            error.message += "; this server fetches no models: start another with `stemma serve --model`"
        raise
    if body.stream is False:
        return json_reply({"status": "success"})
    return EventReply(_success(), service.config, LINES)


async def _success() -> AsyncGenerator[bytes]:
    for status in ("pulling manifest", "success"):
        yield line({"status": status})


async def delete(context: RequestContext[Service, OllamaTransferRequest]) -> Response:
    """DELETE /api/delete."""
    name = model_of(context, context.body.model or context.body.name or "")
    raise bad_request(f"model '{name}' is served and stays: this server deletes no models", "model")


async def push(context: RequestContext[Service, OllamaTransferRequest]) -> Response:
    """POST /api/push."""
    name = model_of(context, context.body.model or context.body.name or "")
    raise bad_request(f"this server pushes no models, nor '{name}'", "model")


async def create(context: RequestContext[Service, OllamaTransferRequest]) -> Response:
    """POST /api/create."""
    raise bad_request("this server makes no models: give `stemma serve` a --model, and adapters by --lora", "model")


async def copy(context: RequestContext[Service, OllamaCopyRequest]) -> Response:
    """POST /api/copy."""
    raise bad_request("this server copies no models: `stemma serve --model-name` calls one otherwise", "destination")


async def blob(context: RequestContext[Service, None]) -> Response:
    """POST /api/blobs/{digest}."""
    raise bad_request("this server takes no models: give one to `stemma serve` as --model", None)
