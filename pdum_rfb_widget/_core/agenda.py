"""Which viewers a stream has to look at, now and later, and which are ready. No clock: times come with the calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .timers import Timers
from .viewer import Viewer


class Agenda:
    """Owned by the hub's thread."""

    def __init__(self) -> None:
        self.due: dict[Viewer, None] = {}
        """The viewers for which something may have changed since the last look, in this order."""
        self.timers = Timers()
        self.ready: set[Viewer] = set()
        """The viewers that would show the next frame at once."""

    def look_at(self, viewers: Iterable[Viewer]) -> None:
        """Makes *viewers* due."""
        for viewer in viewers:
            self.due[viewer] = None

    def take(self, now: float) -> Iterator[Viewer]:
        """Yields the viewers to look at *now*, also those that become due meanwhile."""
        self.look_at(self.timers.expired(now))
        while self.due:
            viewer = next(iter(self.due))
            del self.due[viewer]
            yield viewer

    def note_ready(self, viewer: Viewer) -> None:
        """Records whether *viewer* is ready."""
        if viewer.open and viewer.session.ready:
            self.ready.add(viewer)
        else:
            self.ready.discard(viewer)

    def forget(self, viewer: Viewer) -> None:
        """Removes *viewer*."""
        self.due.pop(viewer, None)
        self.ready.discard(viewer)
        self.timers.remove(viewer)
