"""An event loop in virtual time: its clock stands still while anything runs, and jumps to the next timer otherwise."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any

_ROUND = 1e-6
"""Seconds that a round of the loop takes at least: who waits for less than a clock can tell would wait for ever."""
_SPINS = 10_000
"""Rounds in a row that wait for nothing: a timer that is always due would keep a processor busy."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Deterministic, and of one thread: what would call it from another is called in its turn. Has no I/O."""

    def __init__(self) -> None:
        self.now = 0.0
        self.faults: list[BaseException] = []
        super().__init__(_Jump(self))
        self.set_exception_handler(self._note)

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(context.get("exception") or RuntimeError(context["message"]))

    def time(self) -> float:
        return self.now

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def run_for(self, seconds: float) -> None:
        """Let so many virtual *seconds* pass. Raises what a callback has raised."""
        self.call_at(self.now + seconds, self.stop)
        with no_other_loop():
            self.run_forever()
        if self.faults:
            raise self.faults[0]


@contextmanager
def no_other_loop() -> Iterator[None]:
    """Playwright's loop, of tests before this in the same process, counts as running in this thread: not meanwhile."""
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(running)


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._spins = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "there is nothing left to wait for"
        self._loop.now += max(_ROUND, timeout)
        self._spins = self._spins + 1 if timeout < _ROUND else 0
        assert self._spins < _SPINS, f"the loop spins, {self._loop.now} s after its start"
        return []
