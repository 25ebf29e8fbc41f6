"""The payloads in flight to one viewer, and when there is room for the next. No I/O, no clock.

A payload is in flight until it, or a later one, is acknowledged. The window is how many may be: enough to keep the
viewer busy, and at high latency as many more as travel at a time. Without any acknowledgement for long, one payload
goes beyond the window, as a probe; without one for `ACK_TIMEOUT`, the viewer is to be closed.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from .._frames.chunk import Chunk
from ..limits import ACK_TIMEOUT, PROBE_AFTER
from ..metrics import SessionMetrics
from ..protocol import Ack, CloseCode, ProtocolError
from .policy.bandwidth import BandwidthEstimator
from .policy.degradation import Degradation, Step
from .policy.processor import Kind, ViewerProcessor
from .stream_state import StreamState

_WINDOW = 2
"""Payloads that keep a viewer busy at low latency."""
_MOST_TRAVELLING = 14
"""Most payloads that may be in transit besides, at high latency."""
_SURELY_CARRIED = 32 * 1024
"""Bytes that may be in transit before anything was measured."""


@dataclass(slots=True)
class _Sent:
    seq: int
    at: float
    nbytes: int
    pixels: int
    kind: Kind
    still: bool


@dataclass(slots=True)
class Window:
    """The flow control of one viewer. Owned by the hub's thread."""

    state: StreamState
    bandwidth: BandwidthEstimator
    processor: ViewerProcessor
    metrics: SessionMetrics
    step: Step = Degradation.STEPS[0]
    """The viewer's step of degradation."""
    queue: deque[Chunk] = field(default_factory=deque)
    """Chunks of its shared encoder, to be sent before anything else. They take their places in the window here."""
    seq: int = 0
    """Number of the payload that was sent last."""
    chunk_seq: int | None = None
    """Number of the chunk that was sent last."""
    frame_at: float = -math.inf
    """Time at which the last frame was sent."""
    acks: int = 0
    """Number of acknowledgements that came."""
    _in_flight: deque[_Sent] = field(default_factory=deque)
    _bytes: int = 0
    """Bytes in flight."""
    _last_ack: float = 0.0

    # Input ------------------------------------------------------------------------------------------------------------

    def sent(self, nbytes: int, pixels: int, kind: Kind, now: float, *, keyframe: bool, still: bool) -> None:
        """Records that the next payload was sent."""
        self.seq += 1
        if kind == "video":
            self.chunk_seq = self.seq
        self._in_flight.append(_Sent(self.seq, now, nbytes, pixels, kind, still))
        self._bytes += nbytes
        self.bandwidth.sent(nbytes, now)
        self.metrics.record_sent(payload_bytes=nbytes, keyframe=keyframe, now=now, still=still)

    def acknowledge(self, ack: Ack, now: float) -> None:
        """Takes an acknowledgement, which covers all that was sent before. Raises `ProtocolError` for a number that was
        not sent."""
        if ack.seq > self.seq:
            raise ProtocolError(CloseCode.MALFORMED, f"seq {ack.seq} was acknowledged and never sent")
        self.acks += 1
        queued = ack.decode_queue_size
        while self._in_flight and self._in_flight[0].seq <= ack.seq:
            self._last_ack = now
            sent = self._in_flight.popleft()
            self._bytes -= sent.nbytes
            rtt = now - sent.at if sent.seq == ack.seq else None
            self.metrics.record_ack(rtt_ms=rtt and 1000 * rtt, decode_queue_size=queued, now=now, still=sent.still)
            if rtt is not None:
                if ack.draw_ms is not None:
                    self.processor.drew(sent.kind, sent.pixels, ack.draw_ms / 1000)
                # What waits at a busy viewer says nothing about the link.
                way = rtt - (ack.wait_ms + (ack.draw_ms or 0.0)) / 1000
                self.bandwidth.acknowledged(sent.nbytes, way, now)

    def forget(self, *, video_only: bool = False) -> None:
        """Frees the places of payloads that are never acknowledged: of all in flight, or of video only."""
        self._in_flight = deque(sent for sent in self._in_flight if video_only and sent.kind != "video")
        self._bytes = sum(sent.nbytes for sent in self._in_flight)

    # Output -----------------------------------------------------------------------------------------------------------

    @property
    def taken(self) -> int:
        """The places that are taken, by payloads in flight and by queued chunks."""
        return len(self._in_flight) + len(self.queue)

    @property
    def size(self) -> int:
        """The places that there are."""
        travelling = self._may_travel
        if travelling:
            # No more than bandwidth times latency: what waits before it is lag.
            bandwidth = self.bandwidth
            room = bandwidth.budget * bandwidth.latency if bandwidth.rate else _SURELY_CARRIED
            if self._bytes >= room:
                travelling = 0
        return self._least + travelling

    @property
    def still_fits(self) -> bool:
        """True if there is room for a still: the last place is for a new frame."""
        return not self.taken or self.taken < self.size - 1

    @property
    def full(self) -> bool:
        """True if all places are taken."""
        taken = len(self._in_flight) + len(self.queue)
        return taken >= self._least and taken >= self.size

    def room_at(self, now: float) -> float:
        """Returns when window, budget and frame rate have room for a frame; infinity until the viewer sends something.
        Time passed without an acknowledgement makes room for one probe."""
        over = self.taken - self.size if self.full else -1
        if over > 0 or (over == 0 and self.queue):
            return math.inf
        room = self.bandwidth.next_send(now)
        if over == 0:
            room = max(room, self._silent_since + max(PROBE_AFTER, 4 * self.metrics.rtt_ms / 1000))
        if self.step.fps < 1:
            room = max(room, self.frame_at + 0.9 / (self.step.fps * self.state.publish_rate.fps))
        return room

    @property
    def turnaround(self) -> float:
        """Seconds in which the viewer takes a frame."""
        return self.metrics.rtt_ms / 1000 / (self._least + self._may_travel)

    @property
    def closes_at(self) -> float:
        """Time at which the viewer has acknowledged nothing for too long; infinity while nothing is in flight."""
        return max(self._last_ack, self._in_flight[0].at) + ACK_TIMEOUT if self._in_flight else math.inf

    @property
    def _silent_since(self) -> float:
        return max(self._last_ack, self._in_flight[0].at) if self._in_flight else -math.inf

    @property
    def _least(self) -> int:
        return 1 if self.step.narrow else self.state.options.max_inflight or _WINDOW

    @property
    def _may_travel(self) -> int:
        """Payloads in transit at high latency, besides those at the hub and at the viewer."""
        latency = self.bandwidth.latency
        if self.step.narrow or self.state.options.max_inflight or math.isinf(latency):
            return 0
        return min(_MOST_TRAVELLING, int(latency * self.state.publish_rate.fps))
