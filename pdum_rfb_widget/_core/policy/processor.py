"""The processor of one viewer: the seconds that a frame costs it, by what it decodes. Pure.

- `ViewerProcessor` learns from acknowledgements what a pixel costs to decode and draw, as images and as video.
- `VideoWorth` decides whether video may replace images, or would only make frames rarer.

The link has an estimate of its own (`bandwidth`). All belong to the hub's thread. Times are seconds.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ...limits import ACK_TIMEOUT
from .hysteresis import Direction, Hysteresis

Kind: TypeAlias = Literal["exact", "lossy", "video"]
"""The kind of payload that a viewer decodes: an exact image, a lossy one, or video."""

LARGE = 1 << 18
"""Pixels from which a region shows the cost of a pixel; in a smaller one the fixed cost weighs too much."""
FORGETS = 0.998
"""Factor for each frame on costs that are not in use: without it one moment of load would count for ever."""

_GUESSED: dict[Kind, float] = {"exact": 10e-9, "lossy": 5e-9, "video": 5e-9}
_UNTRIED: dict[Kind, float] = {"exact": 1.0, "video": 0.5}
"""Costs, in those of lossy images, of what was not tried: low, so that it is tried where it may fit. Video most of all:
hardware may decode it, and nothing but a trial tells."""
_COMPARED: dict[Kind, Kind] = {"lossy": "video", "video": "lossy"}
"""The two kinds that moving frames may have. A processor that gets slower does so for both."""
_FIRST = 10
"""Measurements of a kind that still correct a guess, and say nothing about the other kind."""
_DOUBTS = 0.9995
"""Factor for each frame on the compared cost that is not in use. It halves in half a minute, and is then tried again:
the load may have been another one when it was measured."""


@dataclass(slots=True)
class ViewerProcessor:
    """The seconds that one viewer takes to decode and draw."""

    shared: bool = False
    """True if the hub's machine is the viewer's, so that encoding and drawing take turns."""
    pixel_seconds: dict[Kind, float] = field(default_factory=dict)
    """Seconds that a pixel takes; nothing until the first was measured."""
    _measured: Counter[Kind] = field(default_factory=Counter)

    def drew(self, kind: Kind, pixels: int, seconds: float) -> None:
        """Learns from a payload of *kind* that took the viewer so many *seconds*."""
        if pixels < LARGE / 4:
            return
        costs, seconds = self.pixel_seconds, min(seconds, ACK_TIMEOUT)  # a viewer may say anything
        before = costs.get(kind, _GUESSED[kind])
        costs[kind] = before + 0.3 * min(1.0, pixels / LARGE) * (seconds / pixels - before)
        self._measured[kind] += 1
        other = _COMPARED.get(kind)
        if other in costs and before and self._measured[kind] > _FIRST:
            costs[other] *= _DOUBTS * costs[kind] / before
        if kind != "exact" and "exact" in costs:
            costs["exact"] *= FORGETS

    def seconds(self, kind: Kind, pixels: float) -> float:
        """Returns the seconds that this many *pixels* take; 0 while nothing was measured."""
        costs = self.pixel_seconds
        known = costs[kind] if kind in costs else _UNTRIED.get(kind, 0.0) * costs.get("lossy", 0.0)
        return known * pixels

    def fps(self, kind: Kind, pixels: float) -> float:
        """Returns how many frames of this many *pixels* the viewer can draw in a second."""
        seconds = self.seconds(kind, pixels)
        return 1 / seconds if seconds else math.inf

    def busy(self, drawing: float, encoding: float) -> float:
        """Returns the seconds from one frame to the next that *drawing* and *encoding* leave: on a shared machine they
        take turns, else one frame is encoded while the one before is drawn."""
        return drawing + encoding if self.shared else max(drawing, encoding)


@dataclass(slots=True)
class VideoWorth:
    """Decides, with hysteresis, if video is worth it for a processor. It is until a trial has shown otherwise."""

    PATIENCE = (1.0, 64.0)
    """Least and most seconds for which video must promise more before it is tried again."""
    REGRET = 0.5
    """Seconds for which video must have been worse than images before it is given up."""
    WORSE = 0.8
    """The share of the images' frame rate below which video is clearly worse."""

    worth: bool = True
    _hysteresis: Hysteresis = field(default_factory=lambda: Hysteresis(*VideoWorth.PATIENCE, VideoWorth.REGRET))

    def judge(self, gain: float, now: float) -> bool:
        """Returns True if video may be used. *gain* is its frame rate in that of images, where both are limited by
        what is published, by link, viewer and encoder."""
        wanted: Direction | None = None
        if self.worth and gain < self.WORSE:
            wanted = "worse"
        elif not self.worth and gain >= 1:
            wanted = "better"
        if self._hysteresis.moves(wanted, now):
            self.worth = not self.worth
        return self.worth
