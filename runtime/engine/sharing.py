"""Texts that all namespaces share: computed once, kept as long as they are shared, and with them alone.

    shared     |<-- a text that is shared -->|                        no caller writes here
    a tenant's                               |<-- what follows it -->|   under the tenant's own namespace

What is shared is what `Engine.share` was given, never what requests have in common: whether a text is found does not
tell what others have asked. A request that begins with several of the texts takes the longest.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stemma.radix import Segments
from stemma.runtime.engine.hold import Hold
from stemma.runtime.engine.namespaces import shared_namespace
from stemma.runtime.errors import InvalidRequest, PoolExhausted
from stemma.runtime.model import LoadedModel

MAX_SHARED = 256
"""Texts: each is compared with the beginning of each prompt."""

Compute = Callable[[npt.NDArray[np.int32], str, str | None, Hold], None]


@dataclass(slots=True, eq=False)
class SharedText:
    """A text that is shared. `release` ends that; what follows it in the cache is found no more then.

    tokens: its ids. lora: the adapter that it is computed with. hold: what keeps its KV.
    """

    tokens: npt.NDArray[np.int32]
    lora: str | None
    hold: Hold
    _owner: SharedTexts

    @property
    def num_tokens(self) -> int:
        """How long it is."""
        return len(self.tokens)

    def release(self) -> None:
        """Share it no more. Safe to call twice."""
        self._owner.remove(self)
        self.hold.release()


class SharedTexts:
    """All of one engine. Any thread may use it.

    hold: gives what keeps KV for so many seconds. compute: has tokens computed in a namespace, with an adapter, and
    kept; None where there is no prefix cache.
    """

    def __init__(self, loaded: LoadedModel, hold: Callable[[float], Hold], compute: Compute | None) -> None:
        self._loaded = loaded
        self._hold = hold
        self._compute = compute
        self._lock = threading.Lock()
        self._texts: dict[str, list[tuple[bytes, SharedText]]] = {}  # by namespace, the longest first

    def add(self, tokens: npt.NDArray[np.int32], lora: str | None) -> SharedText:
        """Share one more; returns when it is computed. Raises InvalidRequest, PinRefused or PoolExhausted."""
        name = shared_namespace(self._loaded, lora)
        if len(self._texts.get(name, ())) >= MAX_SHARED:
            raise InvalidRequest(f"no more than {MAX_SHARED} texts are shared; release some", "text")
        made = SharedText(tokens, lora, self._kept(tokens, name, lora), self)
        with self._lock:
            texts = [*self._texts.get(name, ()), (tokens.tobytes(), made)]
            self._texts[name] = sorted(texts, key=lambda text: -len(text[0]))
        return made

    def _kept(self, tokens: npt.NDArray[np.int32], name: str, lora: str | None) -> Hold:
        if self._compute is None:
            raise InvalidRequest("nothing is shared without the prefix cache: leave prefix_cache on", "prefix_cache")
        hold = self._hold(math.inf)
        self._compute(tokens, name, lora, hold)
        if hold.num_tokens < len(tokens):
            raise PoolExhausted(f"the pool is too small to keep {len(tokens)} tokens beside a request: raise kv_tokens")
        return hold

    def remove(self, text: SharedText) -> None:
        """Look for it no more."""
        with self._lock:
            for name, texts in self._texts.items():
                self._texts[name] = [each for each in texts if each[1] is not text]

    def renew(self) -> None:
        """Have all of them in the cache again, after it was cleared."""
        for name, texts in list(self._texts.items()):
            for _, text in texts:
                text.hold.release()
                text.hold = self._kept(text.tokens, name, text.lora)

    def segments(self, prompt: npt.NDArray[np.int32], namespace: str, lora: str | None) -> Segments | None:
        """Where a prompt of this namespace stands, if it begins with a text that is shared."""
        name = shared_namespace(self._loaded, lora)
        texts = self._texts.get(name)
        if not texts:
            return None
        data = prompt.tobytes()
        found = next((text for begin, text in texts if data.startswith(begin)), None)
        return None if found is None else Segments(name, found.num_tokens, namespace)
