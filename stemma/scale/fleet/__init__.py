"""Which replica should have a request: who holds what, how busy each is, what computing costs. No sockets, no clock."""

from __future__ import annotations

from stemma.scale.fleet.choose import Choice, Chooser
from stemma.scale.fleet.cost import PrefillCost
from stemma.scale.fleet.errors import NoReplica
from stemma.scale.fleet.hashes import hashes_of
from stemma.scale.fleet.index import Index
from stemma.scale.fleet.load import Load

__all__ = ["Choice", "Chooser", "Index", "Load", "NoReplica", "PrefillCost", "hashes_of"]
