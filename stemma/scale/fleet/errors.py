"""What goes wrong among replicas for a reason that is nobody's bug."""

from __future__ import annotations

from stemma.runtime.errors import StemmaError


class NoReplica(StemmaError):
    """There is no replica that takes requests: all are gone or draining. Refuse with 503, and try again soon."""
