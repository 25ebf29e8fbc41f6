"""Which viewers a stream has to look at, now and later, and which are ready. No clock: times come with the calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .stream_state import EncodePlan
from .timers import Timers
from .viewer import Viewer


class Agenda:
    """Owned by the hub's thread."""

    def __init__(self) -> None:
        self.due: dict[Viewer, None] = {}
        """The viewers for which something may have changed since the last look, in this order."""
        self.timers = Timers()
        self.with_room: set[Viewer] = set()
        """The viewers that can be sent a frame, and await none."""
        self.ready: set[Viewer] = set()
        """Those of them that show the newest frame: they would show the next at once."""

    def takes_frames(self, now: float) -> bool:
        """True if a viewer may have room for a pending frame, or may be probed."""
        return bool(self.with_room) or self.timers.next <= now

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

    def note_room(self, viewer: Viewer, awaited: tuple[EncodePlan, object] | None) -> None:
        """Records whether *viewer* has room, and is ready. A frame that is *awaited* from an encoder leaves no room for
        another; a still does."""
        has_room = viewer.open and viewer.session.has_room and (awaited is None or awaited[0].still)
        (self.with_room.add if has_room else self.with_room.discard)(viewer)
        (self.ready.add if has_room and not viewer.session.stale else self.ready.discard)(viewer)

    def forget(self, viewer: Viewer) -> None:
        """Removes *viewer*."""
        self.due.pop(viewer, None)
        self.with_room.discard(viewer)
        self.ready.discard(viewer)
        self.timers.remove(viewer)
