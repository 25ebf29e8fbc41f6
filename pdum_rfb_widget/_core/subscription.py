"""Images or video for one viewer: chosen once a frame, by its delivery policy. No I/O, no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._frames.damage import TileMap
from ..protocol import CloseCode, ProtocolError
from ..types import Selection
from .policy.delivery import DeliveryPolicy
from .shared_encoders import JOIN_INTERVAL, Subscriber
from .stream_state import StreamState
from .window import Window

_MOST_SKIPPED = 0.15
"""Seconds without images, of each second, in which a viewer waits to join a shared encoder."""


@dataclass(slots=True)
class Subscription:
    """The place of one viewer in the stream's shared encoders. Owned by the hub's thread."""

    state: StreamState
    subscriber: Subscriber
    _chosen_for: tuple[int, bool] | None = None
    """The newest version, and whether video worked, at the last choice."""
    _skips_from: float = -math.inf

    def choose(self, policy: DeliveryPolicy, window: Window, newest: TileMap, selection: Selection, now: float) -> None:
        """Lets the viewer join the encoder that its *policy* chooses for this frame, which it is asked once."""
        works = self.state.video_works
        if self._chosen_for == (newest.version, works):
            return
        self._chosen_for = newest.version, works
        if not (works or selection.pictures):
            raise ProtocolError(CloseCode.NO_FORMAT, "the hub can't encode video, and the viewer takes nothing else")
        turnaround = window.turnaround if selection.video else 0.0
        encoder = policy.encoder(newest.width * newest.height, selection, turnaround, now)
        window.step = policy.step
        if selection.video:
            self.state.encoders.place(self.subscriber, encoder)

    def choose_again(self) -> None:
        """Makes `choose` choose for the newest frame once more."""
        self._chosen_for = None

    def leave(self) -> None:
        """Leaves all encoders until the next choice."""
        self.state.encoders.leave(self.subscriber)
        self._chosen_for = None

    def skips_until(self, newest: TileMap, now: float) -> float:
        """Returns until when to skip images for the keyframe of a shared encoder: they would use up the budget, so that
        the encoder never found room. For a moment each time: its encoder may hang."""
        if not self.state.encoders.let_join(self.subscriber, now):
            return now
        if now - self._skips_from > JOIN_INTERVAL:
            self._skips_from = now
        next_frame = newest.timestamp_us / 1e6 + 1.5 / self.state.publish_rate.fps
        return min(next_frame, self._skips_from + _MOST_SKIPPED)
