"""A queue of connections that wait to be admitted, some at a time. No I/O. Owned by the hub's loop."""

from __future__ import annotations

from collections.abc import Callable

from ..limits import Limits


class AdmissionQueue:
    """Admits `Limits.handshakes` connections at a time, in order of arrival; at most `Limits.viewers_per_hub` wait.

    A notebook of a hundred views, or pages that reconnect after a proxy was away, all connect within the same second.
    """

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self._limits = limits
        self._taken: set[object] = set()
        self._line: dict[object, Callable[[], None]] = {}

    def __len__(self) -> int:
        """Number of connections that are admitted."""
        return len(self._taken)

    @property
    def full(self) -> bool:
        """True if no more connections may wait."""
        return len(self._taken) >= self._limits().handshakes and len(self._line) >= self._limits().viewers_per_hub

    def ask(self, who: object, begin: Callable[[], None]) -> None:
        """Calls *begin* when *who* is admitted, which may be at once."""
        self._line[who] = begin
        self._go_on()

    def leave(self, who: object) -> None:
        """Removes *who*, which is done or no longer waits; harmless if it is unknown."""
        self._taken.discard(who)
        self._line.pop(who, None)
        self._go_on()

    def _go_on(self) -> None:
        while self._line and len(self._taken) < self._limits().handshakes:
            who = next(iter(self._line))
            begin = self._line.pop(who)
            self._taken.add(who)
            begin()
