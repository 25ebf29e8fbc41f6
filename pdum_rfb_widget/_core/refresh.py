"""Lossless refresh: tiles that are lossy on a viewer's canvas and at rest are sent again exactly. No I/O, no clock."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from .._frames.damage import TileMap
from ..types import Selection
from .framebuffer import ClientFramebuffer, piece, whole
from .policy.bandwidth import EXACT, BandwidthEstimator
from .policy.processor import ViewerProcessor
from .stream_state import EncodePlan, StreamState, exact_fidelity

STILL_SECONDS = 0.01
"""Seconds that a piece of a still may take on its way to the canvas: a new frame may have to wait that long."""
MOST_PIECES = 1024
"""Pieces, at most, in which a whole picture becomes exact: browsers copy all of a canvas for each change that they
display, so pieces that are small beside the picture cost as much as larger ones."""
STILL_LEAD = 0.03
"""Seconds before its time at which a still is encoded: no drag pauses so long between two of its frames."""
STILLS_AHEAD = 2
PAINT_OVER_EVERY = 8
"""Frames after which a still that is due goes first, where a newer frame always waits and there is no pause."""
_GUESSED_DRAWING = 25e-9
"""Seconds to draw a pixel of a PNG, until the viewer reports its own figure."""


@dataclass(slots=True)
class LosslessRefresh:
    """The stills of one viewer. Each method that plans also returns when to call it again."""

    state: StreamState
    picture: ClientFramebuffer
    bandwidth: BandwidthEstimator
    processor: ViewerProcessor
    pointer: tuple[float, float] | None = None
    """The point that the user looks at: the pieces nearest to it go first."""
    _ahead: deque[EncodePlan] = field(default_factory=deque)
    _painted_over: int = 0

    def forget(self) -> None:
        """Discards plans, which belong to an earlier stream."""
        self._ahead.clear()

    def sent(self, frames_sent: int) -> None:
        """Records that a still was sent after this many frames."""
        self._painted_over = frames_sent

    def due(self, newest: TileMap, selection: Selection) -> float:
        """Returns the time at which the first lossy tile is at rest."""
        first = self.picture.first_lossy()
        if first is None:
            return math.inf
        return self.state.publish_rate.rests_at(first if selection.tiles else newest.version)

    def ahead_at(self, newest: TileMap, selection: Selection) -> float:
        """Returns the time from which to ask `ahead`."""
        return self.due(newest, selection) - STILL_LEAD if selection.settles else math.inf

    def next(self, newest: TileMap, selection: Selection, now: float) -> tuple[EncodePlan | None, float]:
        """Returns the still to send now to a viewer that is up to date, or None, and when to call again."""
        if not selection.settles:
            return None, math.inf
        if (look := self.due(newest, selection)) > now:
            return None, look
        self._drop_outdated(newest)
        if not self._ahead and (plan := self._plan(newest, selection, now)):
            self._ahead.append(plan)
        if not self._ahead:
            return None, math.inf
        look = self.bandwidth.next_send(now, self.state.costs.nbytes(EXACT, self._ahead[0].region.pixels))
        return (self._ahead.popleft(), look) if look <= now else (None, look)

    def ahead(self, newest: TileMap, selection: Selection, now: float) -> tuple[EncodePlan | None, float]:
        """Returns a still that is due soon, or follows the one in flight, to encode in advance and send on time."""
        if (look := self.ahead_at(newest, selection)) > now:
            return None, look
        self._drop_outdated(newest)
        due = look + STILL_LEAD
        if len(self._ahead) < STILLS_AHEAD and (plan := self._plan(newest, selection, max(now, due))):
            self._ahead.append(plan)
            return plan, math.inf
        return None, math.inf

    def over_motion(self, newest: TileMap, selection: Selection, frames_sent: int, now: float) -> EncodePlan | None:
        """Returns a still of tiles at rest while newer frames keep coming: it gets a turn now and then."""
        if (
            selection.settles
            and selection.tiles
            and frames_sent >= self._painted_over + PAINT_OVER_EVERY
            and self.due(newest, selection) <= now
        ):
            self._drop_outdated(newest)
            return self._plan(newest, selection, now)
        return None

    def wanted(self, plan: EncodePlan) -> bool:
        """True if nothing in the planned still has changed meanwhile."""
        newest, tiles = self.state.newest, plan.region.tiles
        return newest is tiles or (
            newest is not None
            and newest.changed.shape == tiles.changed.shape
            and not (newest.changed[plan.region.mask] > tiles.version).any()
        )

    def _drop_outdated(self, newest: TileMap) -> None:
        """Discards plans for an older frame."""
        if self._ahead and self._ahead[0].region.tiles is not newest:
            self._ahead.clear()

    def _plan(self, newest: TileMap, selection: Selection, now: float) -> EncodePlan | None:
        """Plans what is lossy, at rest and not planned already; None when nothing is left."""
        if selection.tiles:
            mask = self.picture.at_rest(newest, self.state.publish_rate.at_rest(now))
            for plan in self._ahead:
                mask &= ~plan.region.mask
            if not mask.any():
                return None
            focus = self.pointer or (newest.width / 2, newest.height / 2)
            pixels = max(STILL_SECONDS / self._pixel_seconds, newest.width * newest.height / MOST_PIECES)
            region = piece(newest, mask, pixels, focus)
        elif self._ahead:
            return None
        else:
            region = whole(newest)
        return EncodePlan(region, exact_fidelity(selection, self.state.options), EXACT, still=True)

    @property
    def _pixel_seconds(self) -> float:
        """Seconds that a pixel of a still takes from the hub to the canvas."""
        costs, bandwidth = self.state.costs, self.bandwidth
        rate = bandwidth.rate or self.state.options.bitrate / 8
        drawing = self.processor.pixel_seconds.get("exact", _GUESSED_DRAWING)
        return drawing + costs.nbytes(EXACT, 1) / rate
