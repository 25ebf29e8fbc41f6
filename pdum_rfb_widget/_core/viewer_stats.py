"""The figures of one viewer: what it is told of them, and when; what `Display.status` shows. No I/O, no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..protocol import set_quality_message, stats_message
from ..types import Message
from .stream_state import StreamState
from .window import Window


@dataclass(slots=True)
class ViewerStats:
    """Tells one viewer its figures. Owned by the hub's thread."""

    state: StreamState
    window: Window
    _told_at: float
    """Time at which figures were last sent."""
    _frames_told: int = 0
    """The number of frames sent by then."""
    _target: tuple[float, float] = (math.inf, math.inf)
    """The bit rate and frame rate that were last sent."""

    @property
    def due(self) -> float:
        """Time at which `stats` returns messages; infinity if nothing was sent since the last: a viewer at rest costs
        nothing."""
        interval = self.state.options.stats_interval
        if interval is None or self.window.metrics.frames_sent == self._frames_told:
            return math.inf
        return self._told_at + interval

    def stats(self, now: float) -> list[Message]:
        """Returns a stats message when due, after one of the hub's targets where these have changed."""
        if now < self.due:
            return []
        metrics, bandwidth = self.window.metrics, self.window.bandwidth
        self._told_at, self._frames_told = now, metrics.frames_sent
        budget = {"target_bitrate": 8 * bandwidth.budget} if math.isfinite(bandwidth.budget) else {}
        return [
            *self._set_quality(),
            stats_message(
                rtt_ms=metrics.rtt_ms,
                target_fps=self._target_fps,
                encode_ms=metrics.encode_ms,
                decode_queue_size=metrics.decode_queue_size,
                dropped=metrics.frames_dropped,
                **metrics.rates(now=now),
                **budget,
            ),
        ]

    def snapshot(self, now: float) -> dict[str, float | str]:
        """Returns the figures, as JSON can express them."""
        metrics, bandwidth = self.window.metrics, self.window.bandwidth
        budget = 8 * bandwidth.budget
        metrics.inflight = self.window.taken
        metrics.target_fps = self._target_fps
        metrics.target_bitrate = round(budget) if math.isfinite(budget) else 0
        return {**metrics.snapshot(now=now), "link_bps": 8 * bandwidth.rate}

    def _set_quality(self) -> list[Message]:
        """Returns a message with the hub's bit rate and frame rate, where these have changed enough to tell."""
        rate, fps = 8 * self.window.bandwidth.budget, self._target_fps
        told_rate, told_fps = self._target
        if not math.isfinite(rate) or (0.9 < rate / told_rate < 1.1 and fps == told_fps):
            return []
        self._target = rate, fps
        return [set_quality_message(rate, fps)]

    @property
    def _target_fps(self) -> float:
        return self.state.options.fps * self.window.step.fps
