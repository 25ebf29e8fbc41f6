"""The times at which viewers are due though nothing came. No clock: every call gets the time in seconds."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

from .viewer import Viewer


class Timers:
    """One timer for each viewer. Owned by the hub's thread."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Viewer]] = []
        """Times, with those that an earlier one has replaced."""
        self._due: dict[Viewer, float] = {}

    @property
    def next(self) -> float:
        """The earliest time; infinity while there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def set(self, viewer: Viewer, at: float) -> None:
        """Sets the timer of *viewer*, unless it is set for an earlier time: to replace it each time costs more than to
        look once too often."""
        if at < self._due.get(viewer, math.inf):
            self._due[viewer] = at
            heapq.heappush(self._heap, (at, viewer.number, viewer))

    def expired(self, now: float) -> Iterator[Viewer]:
        """Yields the viewers whose time has come; their timers aren't set any more."""
        while self._heap and self._heap[0][0] <= now:
            at, _, viewer = heapq.heappop(self._heap)
            if self._due.get(viewer) == at:
                del self._due[viewer]
                yield viewer

    def remove(self, viewer: Viewer) -> None:
        """Removes the timer of *viewer*."""
        if self._due.pop(viewer, None) is not None:
            self._heap = [timer for timer in self._heap if timer[2] is not viewer]
            heapq.heapify(self._heap)
