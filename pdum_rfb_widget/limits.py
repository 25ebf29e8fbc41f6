"""What others can make grow, and how far: every limit of the hub in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .types import check_int

MAX_STREAM_NAME = 64
"""Characters of a stream's name."""

HELLO_TIMEOUT = 10.0
"""Seconds for the first message, and for who decides about it: ten round trips of a bad satellite link."""

PROBE_AFTER = 2.0
"""Seconds without an acknowledgement after which one payload may go beyond the window (or four round trips)."""

ACK_TIMEOUT = 30.0
"""Seconds without an acknowledgement after which a viewer is closed."""

ENCODE_TIMEOUT = 30.0
"""Seconds for an encoder to return: as long as a viewer may take for what it was sent."""

CLOSE_TIMEOUT = 2.0
"""Seconds for a viewer to take its close before the connection is cut."""

MESSAGE_COST = 200
"""Bytes that a message counts as beyond its own: the shortest take as long to be read as ones of that length."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much viewers may ask of a hub; `serve_server` takes one. Raises `TypeError` or `ValueError` that names the
    limit, what came and what is wanted.

    Those of a later call hold for what is open too; only nobody who is in is sent away because there are too many. Who
    is over a limit is closed with 4429 and the limit in words. What one stream's publisher sets are options of the
    stream: ``event_queue_size``, ``max_inflight`` and ``max_render_dimension``.
    """

    viewers_per_stream: int = 64
    """Eight times what a class before one notebook needs; each holds at most a frame."""
    viewers_per_hub: int = 256
    """Of all streams together."""
    handshakes: int = 64
    """Connections that are heard before they have said hello, and as many that have not ended their HTTP request. A
    page opens one for each view, and says it at once. More of either kind wait for their turn, at most
    `viewers_per_hub`; beyond that they are cut, or closed."""
    message_bytes: int = 64 * 1024
    """Of one message of a viewer. The longest without a clipboard is a hello, of 1 KiB."""
    bytes_per_second: int = 512 * 1024
    """That a viewer may send for long; for a moment four times as many. Each message counts as `MESSAGE_COST` more: a
    mouse of 1000 Hz costs 400 KB."""
    channel_bytes: int = 1024 * 1024
    """Of one message of an application's channel, either way. A picture's worth; what is larger is better fetched."""
    channel_queue: int = 8 * 1024 * 1024
    """Bytes of such messages that wait for one viewer. None may be left out, so who is further behind is closed."""
    queued_messages: int = 16
    """Of one viewer, read from its socket and not yet looked at: then the socket waits."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            object.__setattr__(self, limit.name, check_int(limit.name, getattr(self, limit.name), 1, 1 << 30))


class TokenBucket:
    """So many bytes a second, and four times as many at once. Given every time in seconds."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        """It may change at any time."""
        self._left = 4 * rate
        self._at = now

    def spend(self, nbytes: int, now: float) -> bool:
        """Whether *nbytes* are within it."""
        self._left = min(4 * self.rate, self._left + self.rate * max(0.0, now - self._at)) - nbytes
        self._at = now
        return self._left >= 0
