"""The reference as a device that works in its own time. Says what a GPU would do: how often it had nothing to do while
the host read tokens, and raises where a step names tokens that are not there."""

from __future__ import annotations

import numpy as np
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.kernels.sampled import KnownLogProbs
from stemma.kernels.steps import EagerExecutor


class Lagging(ReferenceOps):
    """events: "launch", "sample" and "read" of steps, in the order in which the host does them."""

    name = "lagging"
    runs_ahead = True

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"), torch.float64)
        self.events: list[str] = []
        self.num_waits = 0  # of the device for the host: it had nothing to do when tokens were read
        self._last: list[int] | None = None  # tokens that a step may name
        self._is_busy = False

    def executor(self, network, num_heads, memory, limits=None):
        eager = EagerExecutor(self, network, memory)

        def launch(ids, metadata, rows):
            self.events.append("launch")
            self._is_busy = True
            named = [-1 - token for token in ids.tolist() if token < 0]
            assert len(set(named)) == len(named), "two rows go on with one token"
            logits = eager(self._known(ids), metadata, rows)
            self._last = None  # the next step names what is sampled of this one, and nothing older
            return logits

        launch.record, launch.take_turn = eager.record, eager.take_turn
        return launch

    def _known(self, ids):
        if (ids >= 0).all():
            return ids
        assert self._last is not None, "a step names tokens, and none were sampled in the one before"
        return np.array([token if token >= 0 else self._last[-1 - token] for token in ids.tolist()], dtype=np.int32)

    def embed(self, embedding, ids):
        return super().embed(embedding, self._known(ids))

    def sample(self, logits, rows):
        return self.begin_sample(logits, rows).tokens()

    def begin_sample(self, logits, rows):
        self.events.append("sample")
        sampled = super().sample(logits, rows)
        self._last, self._is_busy = sampled.tolist(), False  # nothing is asked for behind it yet
        return _Late(self, sampled)

    def begin_log_probs(self, logits, sampled, rows, count):
        assert not sampled._is_read, "asked for when the tokens were known: behind the next step"
        return KnownLogProbs(self.log_probs(logits, sampled._sampled[rows], count))


class _Late:
    def __init__(self, ops: Lagging, sampled) -> None:
        self._ops, self._sampled, self._is_read = ops, sampled, False

    def tokens(self):
        assert not self._is_read, "tokens are read twice"
        self._is_read = True
        self._ops.events.append("read")
        self._ops.num_waits += not self._ops._is_busy
        return self._sampled
