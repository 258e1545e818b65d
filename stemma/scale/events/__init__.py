"""What a cache holds, told to routers over ZeroMQ in the form of vLLM's KV events, and heard again.

Names are loaded when they are first used: a router that only hears needs no engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.lazy_names import loaded

if TYPE_CHECKING:
    from stemma.scale.events.forms import Batch, Told, WireError, Writer, read_batch, word
    from stemma.scale.events.mirror import Mirror
    from stemma.scale.events.options import EventOptions
    from stemma.scale.events.publisher import Publisher, TierEvents
    from stemma.scale.events.subscriber import Gap, Subscriber, feed

__all__ = [
    "Batch",
    "EventOptions",
    "Gap",
    "Mirror",
    "Publisher",
    "Subscriber",
    "TierEvents",
    "Told",
    "WireError",
    "Writer",
    "feed",
    "read_batch",
    "word",
]

_HOMES = {
    "Batch": "stemma.scale.events.forms:Batch",
    "EventOptions": "stemma.scale.events.options:EventOptions",
    "Gap": "stemma.scale.events.subscriber:Gap",
    "Mirror": "stemma.scale.events.mirror:Mirror",
    "Publisher": "stemma.scale.events.publisher:Publisher",
    "Subscriber": "stemma.scale.events.subscriber:Subscriber",
    "TierEvents": "stemma.scale.events.publisher:TierEvents",
    "Told": "stemma.scale.events.forms:Told",
    "WireError": "stemma.scale.events.forms:WireError",
    "Writer": "stemma.scale.events.forms:Writer",
    "feed": "stemma.scale.events.subscriber:feed",
    "read_batch": "stemma.scale.events.forms:read_batch",
    "word": "stemma.scale.events.forms:word",
}


def __getattr__(name: str) -> object:
    return loaded(__name__, _HOMES, name)
