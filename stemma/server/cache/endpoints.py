"""Where the cache can be looked at and changed."""

from __future__ import annotations

from stemma.server.cache import api, page
from stemma.server.cache.wire import FlushRequest, PinRequest, PrefixRequest, SavedName, TreeQuery
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import Endpoint


def cache_endpoints(service: Service) -> tuple[Endpoint, ...]:
    """The endpoints of one server; they keep its pins and files."""
    kept = api.CacheApi(service)
    return (
        Endpoint("POST", "/flush_cache", api.flush_cache, "Forget the caller's part of the cache", FlushRequest),
        Endpoint("GET", "/cache/tree", kept.tree, "The radix tree", query=TreeQuery),
        Endpoint(
            "GET", "/cache/events", kept.tree_events, "The radix tree as it changes", media_type="text/event-stream"
        ),
        Endpoint("POST", "/cache/explain", api.explain, "How much of a prompt is cached, and why", PrefixRequest),
        Endpoint("POST", "/cache/warm", api.warm, "Have a prefix computed", PrefixRequest),
        Endpoint("POST", "/cache/pin", kept.pin, "Have a prefix computed and kept", PinRequest),
        Endpoint("GET", "/cache/pins", kept.pins, "The caller's pins"),
        Endpoint("DELETE", "/cache/pins/{pin_id}", kept.unpin, "Let go of a pin"),
        Endpoint("POST", "/cache/save", kept.save_cache, "Write the caller's part of the cache to a file", SavedName),
        Endpoint("POST", "/cache/load", kept.load_cache, "Have a saved cache again", SavedName),
        Endpoint("GET", "/cache/saved", kept.saved_caches, "The caller's saved caches"),
        Endpoint("DELETE", "/cache/saved/{name}", kept.delete_saved, "Delete a saved cache"),
        Endpoint("GET", "/tree", page.tree_page, "The live tree, as a page", is_open=True, media_type="text/html"),
        Endpoint("GET", "/tree/{name}", page.tree_page_part, "A file of the page", is_open=True, media_type="*/*"),
    )
