"""What a running sequence holds: its computed KV is published, kept for who retains it, and given back."""

from __future__ import annotations

from array import array

from stemma.radix import NextUse
from stemma.runtime.core.admission import Admission
from stemma.runtime.core.failures import release_lease, typed_pin_error
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.placing import Placing
from stemma.runtime.core.sequence import Sequence


class Holding:
    """Of one scheduler's sequences."""

    def __init__(self, limits: Limits, placing: Placing, admission: Admission) -> None:
        self._limits = limits
        self._placing = placing
        self._admission = admission

    def shares(self, sequence: Sequence) -> bool:
        """Whether others may find what it computes."""
        return self._limits.reuse and not sequence.goes_alone

    def publish(self, sequence: Sequence) -> None:
        """Put into the tree what its lease knows of; who waits hears of it."""
        assert sequence.lease is not None
        sequence.lease.commit()
        self._admission.beneath.published(sequence)
        waiting = self._placing.waiting
        if waiting:
            waiting.published(sequence, array("i", sequence.tokens).tobytes(), sequence.lease.num_published)

    def let_go(self, sequence: Sequence, next_use: NextUse) -> None:
        """Give its lease back, if it has one. What it computed stays in the tree."""
        if sequence.lease is None:
            return
        if self.shares(sequence):
            self._placing.tell_lease(sequence)
            sequence.lease.mark()
            self.publish(sequence)
        lease, sequence.lease = sequence.lease, None
        release_lease(lease, next_use)

    def hand_over(self, sequence: Sequence) -> None:
        """Have what it computed kept, if somebody asked for that. Raises PinRefused."""
        if sequence.retained is not None and sequence.lease is not None and self.shares(sequence):
            self._placing.tell_lease(sequence)
            sequence.lease.mark()
            with typed_pin_error():
                sequence.lease.retain(sequence.retained)
