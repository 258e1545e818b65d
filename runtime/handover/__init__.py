"""Prefill in one process, decode in another: KV is handed over block by block while it is computed."""

from __future__ import annotations

from stemma.runtime.handover.entrance import DecodeEntrance, take_prompts
from stemma.runtime.handover.giving import PrefillService
from stemma.runtime.handover.network import NetworkListener, address_of, call
from stemma.runtime.handover.protocol import Channel, HandoverError
from stemma.runtime.handover.shared_memory import connect, listen
from stemma.runtime.handover.taking import Taker, Wish

__all__ = [
    "Channel",
    "DecodeEntrance",
    "HandoverError",
    "NetworkListener",
    "PrefillService",
    "Taker",
    "Wish",
    "address_of",
    "call",
    "connect",
    "listen",
    "take_prompts",
]
