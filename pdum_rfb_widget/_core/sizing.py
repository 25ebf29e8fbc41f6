"""The size that viewers ask frames to have. No I/O, no clock: every call gets the time in seconds.

The visible viewer that connected or was resized last decides; when it is hidden or goes, the one before it does. Its
size counts once it has stayed the same for `StreamOptions.resize_debounce`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from ..protocol import SetViewport
from ..types import MAX_RATIO, MAX_SIDE, MIN_RATIO, StreamOptions
from .session import ViewerSession


class Target(NamedTuple):
    """The size that frames should have."""

    width: int
    """Pixels, even and at least 2: video in 4:2:0 has nothing else, and all viewers should see the same."""
    height: int
    ratio: float
    """Device pixels for each CSS pixel; fewer where the size was cut, so that text keeps its size on the screen."""


class Sizing:
    """The target of one stream. Owned by the hub's thread; `target` may be read from any."""

    def __init__(self, options: StreamOptions) -> None:
        self.target: Target | None = None
        """None for a stream whose publisher decides, and before any viewer was visible."""
        self.asker: tuple[str, SetViewport] | None = None
        """The viewer that decides, and its box."""
        self.due = math.inf
        """Time at which `settle` will have a new target; infinity when none is pending."""
        self._options = options
        self._asked: Target | None = None

    def update(self, viewers: Mapping[str, ViewerSession], now: float) -> None:
        """Call it when a viewer was resized, shown or hidden, or went. While none is visible, the target stays."""
        if self._options.resize_policy == "publisher":
            return
        boxes = [
            (viewer.client.resized_at, name, box)
            for name, viewer in viewers.items()
            if viewer.visible and (box := viewer.viewport) and min(box.pwidth, box.pheight) >= 1
        ]
        if not boxes:
            return
        _, name, box = max(boxes)
        self.asker = name, box
        asked = fit(box, self._options.max_render_dimension or MAX_SIDE)
        if asked == self._asked:
            return
        self._asked = asked
        # The first counts at once: no drag leads to it, and the first frame should have it.
        wait = self._options.resize_debounce if self.target else 0
        self.due = math.inf if asked == self.target else now + wait

    def settle(self, now: float) -> bool:
        """Adopts the requested size if it is due; returns True if there is a new target."""
        if now < self.due:
            return False
        self.target, self.due = self._asked, math.inf
        return True


def fit(box: SetViewport, most: int) -> Target:
    """Returns the target for a viewer's *box*: its device pixels, scaled down evenly to at most *most* a side."""
    scale = min(1.0, most / max(box.pwidth, box.pheight))
    # Rounded down: a frame larger than its box can't be shown whole and one to one.
    width, height = (max(2, int(length * scale) // 2 * 2) for length in (box.pwidth, box.pheight))
    # A viewer may send any ratio, and `publish` must accept it.
    return Target(width, height, min(MAX_RATIO, max(MIN_RATIO, box.ratio * scale)))
