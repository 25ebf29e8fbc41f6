"""Every limit of the hub: the things that others can make grow, and how far."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .types import check_int

MAX_STREAM_NAME = 64
"""Most characters of a stream's name."""

HELLO_TIMEOUT = 10.0
"""Seconds for the first message, and for the decision about it: ten round trips of a bad satellite link."""

PROBE_AFTER = 2.0
"""Seconds without an acknowledgement after which one payload may go beyond the window (or four round trips)."""

ACK_TIMEOUT = 30.0
"""Seconds without an acknowledgement after which a viewer is closed."""

ENCODE_TIMEOUT = 30.0
"""Seconds for an encoder to return: as long as a viewer may take to acknowledge."""

CLOSE_TIMEOUT = 2.0
"""Seconds for a viewer to take its close before the connection is cut."""

MESSAGE_COST = 200
"""Bytes that a message counts as beyond its own: the shortest take as long to read as ones of that length."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on what viewers may ask of a hub, for `serve_server`. Raises `TypeError` or `ValueError` that names the
    limit, what was given and what is wanted.

    The limits of a later call apply to open connections too, except that no admitted viewer is removed because there
    are too many. A viewer over a limit is closed with 4429 and the limit in words. Limits that a stream's publisher
    sets are options of the stream: ``event_queue_size``, ``max_inflight`` and ``max_render_dimension``.
    """

    viewers_per_stream: int = 64
    """Eight times what a class before one notebook needs; each holds at most a frame."""
    viewers_per_hub: int = 256
    """Viewers of all streams together."""
    handshakes: int = 64
    """Connections that may be open before their hello, and as many before the end of their HTTP request. A page opens
    one for each view, and says hello at once. More of either kind wait for their turn, at most `viewers_per_hub`;
    beyond that they are cut, or closed."""
    message_bytes: int = 64 * 1024
    """Bytes of one message of a viewer. The longest without a clipboard is a hello, of 1 KiB."""
    bytes_per_second: int = 512 * 1024
    """Bytes a second that a viewer may send for long; for a moment four times as many. Each message counts as
    `MESSAGE_COST` more: a mouse of 1000 Hz costs 400 KB."""
    channel_bytes: int = 1024 * 1024
    """Bytes of one message of an application's channel, either way. An image's worth; fetch larger data otherwise."""
    channel_queue: int = 8 * 1024 * 1024
    """Bytes of such messages that wait for one viewer. None may be left out, so a viewer further behind is closed."""
    queued_messages: int = 16
    """Messages of one viewer that are read from its socket and not yet processed: beyond that the socket waits."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            object.__setattr__(self, limit.name, check_int(limit.name, getattr(self, limit.name), 1, 1 << 30))


class TokenBucket:
    """Fills by *rate* a second up to *burst*, and starts full. It may be overdrawn, and then has to fill from below 0.

    `rate` and `burst` may change at any time, and count from the last call on; an infinite rate limits nothing. Every
    call gets the time in seconds.
    """

    __slots__ = ("_at", "_left", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate, self.burst = rate, burst
        self._left, self._at = burst, now

    def left(self, now: float) -> float:
        """Returns how much is in it; negative while overdrawn."""
        if now > self._at:
            self._left += self.rate * (now - self._at)
            self._at = now
        if self._left > self.burst:
            self._left = self.burst
        return self._left

    def spend(self, amount: float, now: float) -> bool:
        """Takes *amount* out; returns False if less was in it."""
        self._left = left = self.left(now) - amount
        return left >= 0

    def fits_at(self, amount: float, now: float) -> float:
        """Returns when it holds *amount*, or `burst` if that is less; *now* if it does."""
        missing = min(amount, self.burst) - self.left(now)
        return now + missing / self.rate if missing > 0 else now


def received_bytes(limits: Limits, now: float) -> TokenBucket:
    """Returns the bucket of the bytes that a viewer may send."""
    return TokenBucket(limits.bytes_per_second, 4 * limits.bytes_per_second, now)
