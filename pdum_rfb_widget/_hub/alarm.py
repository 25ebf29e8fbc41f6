"""A timer of an event loop that is set again and again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Alarm:
    """Calls *wake* in *loop*, which owns it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop, self._wake = loop, wake
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Wakes at this time of the loop, or sooner if it was set for a sooner one: a call too many costs less than a
        new timer each time."""
        if self._timer and self._timer.when() <= at:
            return
        if self._timer:
            self._timer.cancel()
        self._timer = None if math.isinf(at) else self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._wake()
