"""The cache over HTTP: look at the tree, ask why a prompt hits as far as it does, warm, pin, flush, save and load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import Response

from stemma.radix import PrefixCache, namespace_of_node
from stemma.runtime.engine import CacheFile, Hold
from stemma.runtime.engine.tree import owner
from stemma.server.cache.paths import nodes_of
from stemma.server.cache.saves import Saves
from stemma.server.cache.tree_view import TreeFeed
from stemma.server.cache.wire import FlushRequest, PinRequest, PrefixRequest, SavedName
from stemma.server.generation.pins import CallersPin
from stemma.server.generation.reporting import usage_report
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request
from stemma.server.http.keys import Tenant
from stemma.server.http.replies import EventReply, event, json_reply
from stemma.server.prompts.prompter import Ending

REFRESH_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 10.0


class CacheApi:
    """The endpoints for which something is kept: the picture of the tree, files; and pins, which others make too."""

    def __init__(self, service: Service) -> None:
        self._tree = TreeFeed(service.engine)
        self._pins = service.pins
        self._saves = Saves(service.engine, service.config.cache_folder, service.config.max_saved_bytes)

    async def tree(self, context: RequestContext[Service, None]) -> Response:
        """GET /cache/tree: all nodes that the caller may see, and the counters; with `tokens=true` the nodes' token ids
        and blocks instead of excerpts of their texts."""
        if context.request.query_params.get("tokens") in ("true", "1"):
            service, tenant = context.service, context.tenant
            return await service.work(lambda: json_reply({"nodes": nodes_of(service.engine.tree(), tenant)}))
        return json_reply((await self._tree.latest()).report(context.tenant))

    async def tree_events(self, context: RequestContext[Service, None]) -> Response:
        """GET /cache/events: the tree, then what changes of it, as server-sent events."""
        return EventReply(self._changes(context.service.stopping, context.tenant), context.service.config)

    async def _changes(self, stopping: asyncio.Event, tenant: Tenant) -> AsyncGenerator[bytes]:
        known: dict[str, Any] = {}
        last_counters: dict[str, Any] | None = None
        told_at = 0.0
        while not stopping.is_set():
            picture = await self._tree.latest()
            nodes = picture.nodes(tenant)
            changed = [node for name, node in nodes.items() if known.get(name) != node]
            gone = [name for name in known if name not in nodes]
            counters = picture.told_counters(nodes, tenant)
            if changed or gone or counters != last_counters or time.monotonic() - told_at > KEEP_ALIVE_SECONDS:
                yield event({"time": picture.time, "changed": changed, "gone": gone, "counters": counters})
                told_at, known, last_counters = time.monotonic(), nodes, counters
            try:
                await asyncio.wait_for(stopping.wait(), REFRESH_SECONDS)
            except TimeoutError:
                continue

    async def pin(self, context: RequestContext[Service, PinRequest]) -> Response:
        """POST /cache/pin: have a prefix computed and kept for a while."""
        service, body = context.service, context.body
        tokens = await service.work(prefix_tokens, service, body)
        hold = service.engine.hold(pinned_for=body.ttl)
        warmed = await _warmed(context, tokens, hold)
        made = self._pins.add(hold, context.tenant.namespace(body.cache_salt), body.ttl)
        return json_reply(_pin_report(made) | {"usage": warmed["usage"]})

    async def pins(self, context: RequestContext[Service, None]) -> Response:
        """GET /cache/pins."""
        return json_reply({"pins": [_pin_report(made) for made in self._pins.list(context.tenant)]})

    async def unpin(self, context: RequestContext[Service, None]) -> Response:
        """DELETE /cache/pins/{pin_id}."""
        pin_id = context.request.path_params["pin_id"]
        await context.service.work(self._pins.remove, pin_id, context.tenant)
        return json_reply({"id": pin_id, "deleted": True})

    async def save_cache(self, context: RequestContext[Service, SavedName]) -> Response:
        """POST /cache/save: write the caller's part of the cache, with its KV, to a file of the server's."""
        service, started = context.service, time.perf_counter()
        made = await service.work(self._saves.save, context.body.name, context.tenant)
        return json_reply(_report(context.body.name, made, started))

    async def load_cache(self, context: RequestContext[Service, SavedName]) -> Response:
        """POST /cache/load: have it again, as far as blocks are free."""
        service, started = context.service, time.perf_counter()
        made = await service.work(self._saves.load, context.body.name, context.tenant)
        return json_reply(_report(context.body.name, made, started) | {"skipped_tokens": made.num_skipped})

    async def saved_caches(self, context: RequestContext[Service, None]) -> Response:
        """GET /cache/saved: the caller's files."""
        return json_reply({"saved": await context.service.work(self._saves.list, context.tenant)})

    async def delete_saved(self, context: RequestContext[Service, None]) -> Response:
        """DELETE /cache/saved/{name}."""
        name = context.request.path_params["name"]
        await context.service.work(self._saves.delete, name, context.tenant)
        return json_reply({"name": name, "deleted": True})


async def explain(context: RequestContext[Service, PrefixRequest]) -> Response:
    """POST /cache/explain: how much of a prompt is cached, and why it is not more."""
    service = context.service
    tokens = await service.work(prefix_tokens, service, context.body)
    body = context.body
    change = await service.work(
        service.prompter.first_change, body.messages or [], body.tools or [], body.chat_template_kwargs or {}
    )
    where = context.tenant.namespace(body.cache_salt), service.lora_of(body.model)
    look = service.engine.explain  # what other tenants have is none of this one's business
    found = await service.work(look, tokens, *where, looks_elsewhere=context.tenant.is_admin)
    reason, at = found.reason, found.position
    return json_reply(
        {
            "num_tokens": found.num_tokens,
            "hit_len": found.hit_len,
            "match_len": found.match_len,
            "beneath_len": found.beneath_len,
            "marks": list(found.marks),
            "reason": reason.name.lower(),
            "explanation": reason.value,
            "position": at,
            "matched_text": service.tokenizer.decode(tokens[max(0, at - 20) : at]),
            "next_text": service.tokenizer.decode(tokens[at : at + 20]),
            "expected": [{"token": token, "text": service.texts.text(token)} for token in found.expected],
            "evicted_tokens": found.evicted_len,
            "copied_tokens": found.copied_tokens,
            "changed_turn": None if change is None else change._asdict(),
        }
    )


async def warm(context: RequestContext[Service, PrefixRequest]) -> Response:
    """POST /cache/warm: have a prefix computed, and kept longer than what nobody spoke of."""
    return json_reply(await _warmed(context, await context.service.work(prefix_tokens, context.service, context.body)))


async def _warmed(context: RequestContext[Service, Any], tokens: list[int], hold: Hold | None = None) -> dict[str, Any]:
    service = context.service
    context.cleanup.enter_context(service.limiter.enter(context.tenant.name, 1))
    generation = service.engine.submit(
        tokens,
        hold=hold,
        max_tokens=0,
        namespace=context.tenant.namespace(context.body.cache_salt),
        lora=service.lora_of(context.body.model),
        next_use="soon",
    )
    context.cleanup.callback(generation.cancel)
    context.record.submitted([generation], service.name_of(context.body.model))
    return {"num_tokens": len(tokens), "usage": usage_report([(await generation).usage])}


def _pin_report(made: CallersPin) -> dict[str, Any]:
    return {
        "id": made.id,
        "namespace": made.namespace,
        "num_tokens": made.hold.num_tokens,
        "num_blocks": made.hold.num_blocks,
        "expires_in": round(made.expires - time.monotonic(), 3),
    }


async def flush_cache(context: RequestContext[Service, FlushRequest]) -> Response:
    """POST /flush_cache: forget what the caller's namespaces hold; with an admin's key, everything."""
    tenant = context.tenant

    def flush(cache: PrefixCache) -> int:
        if tenant.is_admin:
            return cache.clear()
        names = {namespace_of_node(node) for node in cache.walk() if tenant.owns(owner(node))}
        return sum(cache.drop(name) for name in names)

    service = context.service
    num_freed = await service.work(service.engine.with_cache, flush)
    if tenant.is_admin:
        await service.work(service.engine.shared.renew)
    return json_reply({"freed_blocks": num_freed})


def _report(name: str, made: CacheFile, started: float) -> dict[str, Any]:
    return {
        "name": name,
        "num_paths": made.num_paths,
        "num_tokens": made.num_tokens,
        "num_bytes": made.num_bytes,
        "seconds": round(time.perf_counter() - started, 3),
    }


def prefix_tokens(service: Service, body: PrefixRequest) -> list[int]:
    """The tokens that a cache request speaks of. Raises ApiError."""
    given = [name for name in ("prompt", "messages", "tokens") if getattr(body, name) is not None]
    if len(given) != 1:
        raise bad_request("give one of prompt, messages and tokens", "prompt")
    if body.tokens is not None:
        size = service.tokenizer.vocab_size
        if not body.tokens or any(token >= size for token in body.tokens):
            raise bad_request(f"tokens are some ids below {size}", "tokens")
        return body.tokens
    if body.prompt is not None:
        return service.prompter.encode_text(body.prompt)
    ending: Ending = "prompt" if body.add_generation_prompt else "closed"
    return service.prompter.encode(body.messages or [], body.tools or [], body.chat_template_kwargs, ending)
