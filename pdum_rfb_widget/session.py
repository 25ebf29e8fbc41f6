"""One viewer's state machine. It does no I/O and reads no clock: every call is given the time in seconds.

What it is told: messages, the newest frame's version, payloads that were encoded. What it answers: whether a frame is
wanted, what to send, when to look again. Everything that affects the flow of one viewer lives here:

- a viewer is *stale* while a newer frame exists than it was sent, and *ready* when its window has room;
- it is sent the newest frame as soon as it is both, so frames are skipped before encoding and the last is never lost;
- a payload is in flight until it, or a later one, is acknowledged: a viewer never draws a smaller seq after a larger;
- without any acknowledgement for long, one probe goes beyond the window; without one for `ACK_TIMEOUT`, it is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from .protocol import (
    Ack,
    CloseCode,
    DecoderReset,
    Event,
    Hello,
    ProtocolError,
    RequestKeyframe,
    SetViewport,
    config_message,
    image_header,
    negotiate,
    pack_header,
    parse,
    stats_message,
)
from .types import EncodedPayload, EventDict, Selection, StreamOptions

HELLO_TIMEOUT = 10.0
"""Seconds for the first message: ten round trips of a bad satellite link."""
PROBE_AFTER = 2.0
"""Seconds without an acknowledgement after which one payload may go beyond the window (or four round trips)."""
ACK_TIMEOUT = 30.0
"""Seconds without an acknowledgement after which the viewer is closed."""

Message = str | tuple[bytes, bytes]
"""Something to send: a text, or a binary message as its header and its payload."""


@dataclass(slots=True)
class Counters:
    """One viewer's figures since it connected; rates are of the last stats interval."""

    frames_sent: int = 0
    frames_acked: int = 0
    bytes_sent: int = 0
    dropped: int = 0
    encode_ms: float = 0.0
    rtt_ms: float = 0.0
    decode_queue_size: int = 0


@dataclass(slots=True)
class _Sent:
    seq: int
    at: float


@dataclass(slots=True)
class _Mark:
    """The counters at the last stats message."""

    at: float
    sent: int = 0
    acked: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Session:
    """The state of one viewer. Owned by the hub's thread.

    `authorize` is called with the first message and raises `ProtocolError` to refuse it.
    """

    options: StreamOptions
    authorize: Callable[[Hello], None]
    started: float
    selection: Selection | None = None
    viewport: SetViewport | None = None
    visible: bool = True
    counters: Counters = field(default_factory=Counters)
    _supported: tuple[str, ...] = ()
    _newest: int = 0
    _sent_version: int = 0
    _send_again: bool = False
    _config: str = ""
    _seq: int = 0
    _in_flight: deque[_Sent] = field(default_factory=deque)
    _last_ack: float = 0.0
    _rtt: float = 0.0
    _mark: _Mark = field(init=False)

    def __post_init__(self) -> None:
        self._mark = _Mark(self.started)

    # What it is told --------------------------------------------------------------------------------------------------

    def receive(self, message: str | bytes, now: float) -> EventDict | None:
        """Take one message; the input event in it, if it holds one. Raises `ProtocolError` for what is no protocol."""
        parsed = parse(message)
        if self.selection is None:
            if not isinstance(parsed, Hello):
                raise ProtocolError(CloseCode.MALFORMED, "the first message is hello")
            self._open(parsed)
            return None
        match parsed:
            case Ack():
                self._acknowledge(parsed, now)
            case SetViewport():
                self.viewport = parsed
            case RequestKeyframe():
                self._send_again = True
            case DecoderReset():
                self._in_flight.clear()
                self._send_again = True
            case Event(event):
                if event["type"] in ("show", "hide"):
                    self.visible = event["type"] == "show"
                return event
        return None

    def published(self, version: int) -> None:
        """A frame of this *version* is now the newest."""
        self._newest = version

    def restart(self, options: StreamOptions) -> None:
        """The stream has new options and no frame yet; the viewer keeps its picture until there is one."""
        self.options = options
        self._newest = 0
        self.selection = negotiate(self._supported, options)

    def _open(self, hello: Hello) -> None:
        self.authorize(hello)
        self._supported = hello.supported
        self.selection = negotiate(hello.supported, self.options)

    def _acknowledge(self, ack: Ack, now: float) -> None:
        if ack.seq > self._seq:
            raise ProtocolError(CloseCode.MALFORMED, f"seq {ack.seq} was acknowledged and never sent")
        self.counters.decode_queue_size = ack.decode_queue_size
        while self._in_flight and self._in_flight[0].seq <= ack.seq:
            self._last_ack = now
            sent = self._in_flight.popleft()
            self.counters.frames_acked += 1
            if sent.seq == ack.seq:
                self._measure(now - sent.at)

    def _measure(self, rtt: float) -> None:
        self._rtt = rtt if self._rtt == 0 else 0.8 * self._rtt + 0.2 * rtt
        self.counters.rtt_ms = self._rtt * 1000

    # What it answers --------------------------------------------------------------------------------------------------

    @property
    def stale(self) -> bool:
        """A newer frame exists than the viewer was sent, or it has to be sent the newest again."""
        return self._newest > self._sent_version or (self._send_again and self._newest > 0)

    @property
    def ready(self) -> bool:
        """Somebody would see the next frame at once: open, visible, up to date, with room in the window."""
        return self._may_be_fed and not self.stale and len(self._in_flight) < self.options.max_inflight

    def wants_frame(self, now: float) -> bool:
        """The newest frame shall be encoded for this viewer now."""
        if not self._may_be_fed or not self.stale:
            return False
        over = len(self._in_flight) - self.options.max_inflight
        return over < 0 or (over == 0 and now >= self._probe_at)

    def greet(self, width: int, height: int) -> list[Message]:
        """The answer to hello: the config of a stream that is *width* by *height* now."""
        return self._config_if_new(width, height)

    def send(self, payload: EncodedPayload, now: float) -> list[Message]:
        """*payload* as messages to send now, in this order; it is in flight from here on."""
        messages = self._config_if_new(payload.width, payload.height)
        self._seq += 1
        self.counters.dropped += max(0, payload.version - self._sent_version - 1) if self._sent_version else 0
        self._sent_version = payload.version
        self._send_again = False
        self._in_flight.append(_Sent(self._seq, now))
        header = pack_header(image_header(self._seq, payload))
        messages.append((header, payload.data))
        self.counters.frames_sent += 1
        self.counters.bytes_sent += len(header) + len(payload.data)
        self.counters.encode_ms = payload.encode_ms
        return messages

    def stats(self, now: float) -> list[Message]:
        """A stats message when one is due and something was sent since the last; a viewer at rest costs nothing."""
        interval, mark, counters = self.options.stats_interval, self._mark, self.counters
        if interval is None or now < mark.at + interval or counters.frames_sent == mark.sent:
            return []
        seconds = now - mark.at
        self._mark = _Mark(now, counters.frames_sent, counters.frames_acked, counters.bytes_sent)
        return [
            stats_message(
                rtt_ms=counters.rtt_ms,
                fps_sent=(counters.frames_sent - mark.sent) / seconds,
                fps_acked=(counters.frames_acked - mark.acked) / seconds,
                bitrate_bps=8 * (counters.bytes_sent - mark.bytes) / seconds,
                target_fps=self.options.fps,
                encode_ms=counters.encode_ms,
                decode_queue_size=counters.decode_queue_size,
                dropped=counters.dropped,
            )
        ]

    def metrics(self) -> dict[str, float]:
        """The counters, with what is in flight."""
        return asdict(self.counters) | {"inflight": len(self._in_flight), "visible": self.visible}

    def check(self, now: float) -> None:
        """Raise `ProtocolError` with 4408 once the viewer's time for hello or for an acknowledgement is over."""
        if now < self.closes_at:
            return
        if self.selection is None:
            raise ProtocolError(CloseCode.TIMED_OUT, f"no hello within {HELLO_TIMEOUT:.0f} s")
        raise ProtocolError(CloseCode.TIMED_OUT, f"nothing was acknowledged for {ACK_TIMEOUT:.0f} s")

    @property
    def next_look(self) -> float:
        """When to ask `wants_frame` and `stats` again though nothing came; infinity when nothing is pending."""
        look = float("inf")
        if self._may_be_fed and self.stale and len(self._in_flight) == self.options.max_inflight:
            look = min(look, self._probe_at)
        if self.options.stats_interval and self.counters.frames_sent > self._mark.sent:
            look = min(look, self._mark.at + self.options.stats_interval)
        return look

    @property
    def _may_be_fed(self) -> bool:
        return self.selection is not None and self.visible

    @property
    def _probe_at(self) -> float:
        return self._waiting_since + max(PROBE_AFTER, 4 * self._rtt)

    @property
    def closes_at(self) -> float:
        """When `check` will close the viewer unless it says something; infinity when nothing is expected of it."""
        if self.selection is None:
            return self.started + HELLO_TIMEOUT
        return self._waiting_since + ACK_TIMEOUT if self._in_flight else float("inf")

    @property
    def _waiting_since(self) -> float:
        return max(self._last_ack, self._in_flight[0].at)

    def _config_if_new(self, width: int, height: int) -> list[Message]:
        config = config_message(width, height)
        if config == self._config:
            return []
        self._config = config
        return [config]
