"""A line of those who wait to be let in, some at a time. No I/O. Owned by the hub's loop."""

from __future__ import annotations

from collections.abc import Callable

from ..limits import Limits


class AdmissionQueue:
    """`Limits.handshakes` at a time have their turn; as many as `Limits.viewers_per_hub` wait, first come first served.

    A notebook of a hundred views, or the pages that come back after a proxy was away, come in the same second.
    """

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self._limits = limits
        self._taken: set[object] = set()
        self._line: dict[object, Callable[[], None]] = {}

    def __len__(self) -> int:
        """How many have their turn."""
        return len(self._taken)

    @property
    def full(self) -> bool:
        """No more may wait."""
        return len(self._taken) >= self._limits().handshakes and len(self._line) >= self._limits().viewers_per_hub

    def ask(self, who: object, begin: Callable[[], None]) -> None:
        """Call *begin* when *who* has its turn, which may be at once."""
        self._line[who] = begin
        self._go_on()

    def leave(self, who: object) -> None:
        """*who* has had its turn, or waits no more; harmless if neither is so."""
        self._taken.discard(who)
        self._line.pop(who, None)
        self._go_on()

    def _go_on(self) -> None:
        while self._line and len(self._taken) < self._limits().handshakes:
            who = next(iter(self._line))
            begin = self._line.pop(who)
            self._taken.add(who)
            begin()
