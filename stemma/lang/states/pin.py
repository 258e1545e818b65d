"""A pin: a state's path that nothing may evict for a while."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from stemma.lang.backend import Backend
from stemma.runtime.engine import RequestOptions


class Pin:
    """Computes a path and keeps it while a `with` or `async with` block runs, but no longer than `ttl` seconds."""

    def __init__(self, llm: Backend, prompt: Sequence[int], ttl: float, options: RequestOptions) -> None:
        self._hold = llm.hold(pinned_for=ttl)
        self._prefill = llm.submit(prompt, hold=self._hold, **options)

    def release(self) -> None:
        """End it now."""
        self._prefill.cancel()
        self._hold.release()

    def __enter__(self) -> Pin:
        try:
            self._prefill.result()
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def __aenter__(self) -> Pin:
        try:
            await self._prefill
        except BaseException:
            self.release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
