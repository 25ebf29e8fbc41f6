"""One viewer's state machine. It does no I/O and reads no clock: every call is given the time in seconds.

What it is told: messages, the newest frame's map, what was encoded. What it answers: what to encode next, what to send,
when to look again. Everything that affects the flow of one viewer lives here:

- a viewer is *stale* while a newer frame exists than it was sent, and *ready* when its window has room;
- it is sent what changed as soon as it is both, so frames are skipped before encoding and the last is never lost;
- a payload is in flight until it, or a later one, is acknowledged: a viewer never draws a smaller seq after a larger;
- without any acknowledgement for long, one probe goes beyond the window; without one for `ACK_TIMEOUT`, it is closed;
- what stands lossy and has come to rest is sent again exactly, in pieces that leave room for a new frame.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from .adaptive import COARSEST, EXACT, FRAME_LATENCY, QUALITIES, Ladder, Link
from .damage import TileMap
from .picture import Picture, piece, whole
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
    tiles_header,
)
from .scene import Plan, Scene
from .types import Encoded, EventDict, Fidelity, Selection, StreamOptions

HELLO_TIMEOUT = 10.0
"""Seconds for the first message: ten round trips of a bad satellite link."""
PROBE_AFTER = 2.0
"""Seconds without an acknowledgement after which one payload may go beyond the window (or four round trips)."""
ACK_TIMEOUT = 30.0
"""Seconds without an acknowledgement after which the viewer is closed."""
STILL_SECONDS = 0.01
"""What a piece of a still may take on its way to the canvas: so long a new frame may have to wait for it."""
STILL_LEAD = 0.03
"""Seconds before its time at which a still is encoded: no drag pauses so long between two of its frames."""
STILLS_AHEAD = 2
PAINT_OVER_EVERY = 8
"""Frames after which a still that is due goes first, where there is always a newer frame and so never a pause."""
EXACT_WASTE = 4
"""Unchanged tiles that are sent to save a rectangle, whose own cost is about theirs."""
_GUESSED_DRAWING = 25e-9
"""Seconds to draw a pixel of a PNG, until the viewer has said it."""

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
    nbytes: int
    pixels: int
    exact: bool
    still: bool


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

    `authorize` is called with the first message and raises `ProtocolError` to refuse it. *local*: the viewer's page
    comes from this machine.
    """

    scene: Scene
    authorize: Callable[[Hello], None]
    started: float
    local: bool = False
    selection: Selection | None = None
    viewport: SetViewport | None = None
    resized_at: float = -math.inf
    """When the viewport became what it is."""
    visible: bool = True
    counters: Counters = field(default_factory=Counters)
    link: Link = field(init=False)
    _supported: tuple[str, ...] = ()
    _picture: Picture = field(default_factory=Picture)
    _ladder: Ladder = field(default_factory=Ladder)
    _pixels: float = 0.0
    _pointer: tuple[float, float] | None = None
    _send_again: bool = False
    _config: str = ""
    _seq: int = 0
    _in_flight: deque[_Sent] = field(default_factory=deque)
    _painted_over: int = 0
    _look: float = math.inf
    _ahead: deque[Plan] = field(default_factory=deque)
    _last_ack: float = 0.0
    _rtt: float = 0.0
    _mark: _Mark = field(init=False)

    def __post_init__(self) -> None:
        self._mark = _Mark(self.started)
        self.link = Link(self.local, self.options.bitrate)

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
            case SetViewport() if parsed != self.viewport:
                self.viewport, self.resized_at = parsed, now
            case RequestKeyframe():
                self._send_again = True
            case DecoderReset():
                self._in_flight.clear()
                self._send_again = True
            case Event(event):
                self._notice(event)
                return event
        return None

    def restarted(self) -> None:
        """The stream has new options and no frame yet; the viewer keeps its picture until there is one."""
        self._look = math.inf
        self._ahead.clear()
        self.selection = negotiate(self._supported, self.options)
        self.link.bitrate = self.options.bitrate

    def _open(self, hello: Hello) -> None:
        self.authorize(hello)
        self._supported = hello.supported
        self.selection = negotiate(hello.supported, self.options)

    def _notice(self, event: EventDict) -> None:
        if event["type"] in ("show", "hide"):
            self.visible = event["type"] == "show"
        elif event["type"] in ("pointer_move", "pointer_down", "wheel"):
            self._pointer = event["x"], event["y"]

    def _acknowledge(self, ack: Ack, now: float) -> None:
        if ack.seq > self._seq:
            raise ProtocolError(CloseCode.MALFORMED, f"seq {ack.seq} was acknowledged and never sent")
        self.counters.decode_queue_size = ack.decode_queue_size
        while self._in_flight and self._in_flight[0].seq <= ack.seq:
            self._last_ack = now
            sent = self._in_flight.popleft()
            self.counters.frames_acked += not sent.still
            if sent.seq == ack.seq:
                self._measure(sent, ack, now)

    def _measure(self, sent: _Sent, ack: Ack, now: float) -> None:
        rtt = now - sent.at
        self._rtt = rtt if self._rtt == 0 else 0.8 * self._rtt + 0.2 * rtt
        self.counters.rtt_ms = self._rtt * 1000
        drawing = None if ack.draw_ms is None else ack.draw_ms / 1000
        self.link.acknowledged(sent.nbytes, sent.pixels, sent.exact, rtt, drawing, now)

    # What it answers --------------------------------------------------------------------------------------------------

    @property
    def stale(self) -> bool:
        """A newer frame exists than the viewer was sent, or it has to be sent the newest again."""
        newest = self.scene.newest
        return newest is not None and (newest.version > self._picture.version or self._send_again)

    @property
    def ready(self) -> bool:
        """Somebody would see the next frame at once: open, visible, up to date, with room in the window."""
        return self._may_be_fed and not self.stale and len(self._in_flight) < self.options.max_inflight

    def plan(self, now: float) -> Plan | None:
        """What shall be encoded for this viewer now, of the newest frame; if nothing, `next_look` says when to ask."""
        newest, selection = self.scene.newest, self.selection
        self._look = math.inf
        if newest is None or selection is None or not self.visible:
            return None
        if not self.stale:
            return self._plan_still(newest, selection, now)
        if not self._has_room(now):
            return None
        if self._paint_over_is_due(newest, selection, now) and (still := self._still(newest, selection, now)):
            return still
        return self._plan_frame(newest, selection, now)

    def plan_ahead(self, now: float) -> Plan | None:
        """A still that is due soon, or follows the one on its way: encoded already, it can be sent in its time."""
        newest, selection = self.scene.newest, self.selection
        if newest is None or selection is None or self.stale or not self._can_settle or not self.visible:
            return None
        if self._ahead and self._ahead[0].region.tiles is not newest:
            self._ahead.clear()
        due = self._still_due(newest, selection)
        if due > now + STILL_LEAD:
            self._look = min(self._look, due - STILL_LEAD)
        elif len(self._ahead) < STILLS_AHEAD and (plan := self._still(newest, selection, max(now, due))):
            self._ahead.append(plan)
            return plan
        return None

    def still_wanted(self, plan: Plan) -> bool:
        """Nothing of the still that was planned has changed meanwhile."""
        newest, tiles = self.scene.newest, plan.region.tiles
        return newest is tiles or (
            newest is not None
            and newest.changed.shape == tiles.changed.shape
            and not (newest.changed[plan.region.mask] > tiles.version).any()
        )

    def greet(self, width: int, height: int) -> list[Message]:
        """The answer to hello: the config of a stream that is *width* by *height* now."""
        newest = self.scene.newest
        return self._config_if_new(newest if newest else TileMap.whole(width, height, 0))

    def send(self, plan: Plan, encoded: Encoded, now: float) -> list[Message]:
        """The planned region as messages to send now, in this order; it is in flight from here on."""
        tiles = plan.region.tiles
        messages = self._config_if_new(tiles)
        self._seq += 1
        header = self._header(tiles, encoded)
        messages.append((header, encoded.payload))
        nbytes = len(header) + len(encoded.payload)
        self._picture.drawn(plan.region, encoded.parts)
        if plan.still:
            self._painted_over = self.counters.frames_sent
        else:
            self._account_frame(plan, encoded)
        self.link.sent(nbytes, now)
        exact = all(part.exact for part in encoded.parts)
        self._in_flight.append(_Sent(self._seq, now, nbytes, plan.region.pixels, exact, plan.still))
        self.counters.bytes_sent += nbytes
        return messages

    def _header(self, tiles: TileMap, encoded: Encoded) -> bytes:
        assert self.selection
        return pack_header((tiles_header if self.selection.tiles else image_header)(self._seq, tiles, encoded))

    def _account_frame(self, plan: Plan, encoded: Encoded) -> None:
        version, shown = plan.region.tiles.version, self._picture.version
        self.counters.dropped += max(0, version - shown - 1) if shown else 0
        self.counters.frames_sent += 1
        self.counters.encode_ms = encoded.encode_ms
        self._picture.version = version
        if plan.region.whole:
            self._send_again = False

    # Frames and stills ------------------------------------------------------------------------------------------------

    def _has_room(self, now: float) -> bool:
        over = len(self._in_flight) - self.options.max_inflight
        if over > 0:
            return False
        self._look = max(self.link.next_send(now), self._probe_at if over == 0 else now)
        return self._look <= now

    def _plan_frame(self, newest: TileMap, selection: Selection, now: float) -> Plan:
        everything = self._send_again or not selection.tiles
        region = whole(newest) if everything else self._picture.behind(newest)
        self._pixels = region.pixels if self._pixels == 0 else 0.8 * self._pixels + 0.2 * region.pixels
        rung = self._rung(region.pixels, selection, now)
        if rung == EXACT and not everything:
            # Fewer rectangles cost less than a few tiles; lossy ones would make those lossy that rest exact.
            region = self._picture.behind(newest, EXACT_WASTE)
        return Plan(region, self._fidelity(selection, rung), rung, still=False)

    def _rung(self, pixels: int, selection: Selection, now: float) -> int | None:
        """The rung for a frame of which so many *pixels* changed."""
        quality, costs, link = self.options.quality, self.scene.costs, self.link
        if isinstance(quality, int) and selection.lossy:
            link.need(self._chosen_need)
            return None
        if selection.lossy is None:
            link.need(self._chosen_need)
            return EXACT
        best = EXACT if quality == "auto" and selection.exact else EXACT + 1
        fps = self.scene.pace.fps
        rung = max(best, self._ladder.judge(self._pixels, costs, link, fps, now))
        link.need(min(fps, link.draws(rung == EXACT, self._pixels)) * costs.nbytes(rung, self._pixels))
        most = link.budget * FRAME_LATENCY
        while rung < COARSEST and costs.nbytes(rung, pixels) > most:
            rung += 1
        return rung

    @property
    def _chosen_need(self) -> float:
        """What a quality that was set by hand asks of a local link: to be clearly faster than `bitrate`, whatever the
        pictures take. They are to be so, and the window alone keeps them from piling up."""
        return self.options.bitrate / 8

    def _fidelity(self, selection: Selection, rung: int | None) -> Fidelity:
        options = self.options
        if rung == EXACT:
            assert selection.exact
            return Fidelity(selection.exact, None, selection.tiles, alpha=options.alpha)
        assert selection.lossy
        if rung is None:
            assert isinstance(options.quality, int)
            return Fidelity(selection.lossy, options.quality, selection.tiles)
        return Fidelity(selection.lossy, QUALITIES[rung - 1], selection.tiles, or_exact=selection.exact)

    def _plan_still(self, newest: TileMap, selection: Selection, now: float) -> Plan | None:
        # The last place in the window is a new frame's.
        if not self._can_settle or len(self._in_flight) >= max(1, self.options.max_inflight - 1):
            return None
        self._look = self._still_due(newest, selection)
        if self._look > now:
            return None
        if not self._ahead or self._ahead[0].region.tiles is not newest:
            self._ahead.clear()
            if plan := self._still(newest, selection, now):
                self._ahead.append(plan)
        self._look = self.link.next_send(now, self.scene.costs.nbytes(EXACT, self._ahead[0].region.pixels))
        return self._ahead.popleft() if self._look <= now else None

    def _paint_over_is_due(self, newest: TileMap, selection: Selection, now: float) -> bool:
        """There is always a newer frame, and what rests has waited for several: it gets a turn now and then."""
        return (
            self._can_settle
            and selection.tiles
            and self.counters.frames_sent >= self._painted_over + PAINT_OVER_EVERY
            and self._still_due(newest, selection) <= now
            and len(self._in_flight) < max(1, self.options.max_inflight - 1)
            and not self._send_again
        )

    def _still_due(self, newest: TileMap, selection: Selection) -> float:
        first = self._picture.first_lossy()
        if first is None:
            return math.inf
        return self.scene.pace.rests_at(first if selection.tiles else newest.version)

    def _still(self, newest: TileMap, selection: Selection, now: float) -> Plan | None:
        """What is lossy and at rest, without what is planned already; None when that is all."""
        if selection.tiles:
            mask = self._picture.at_rest(newest, self.scene.pace.at_rest(now))
            for plan in self._ahead:
                mask &= ~plan.region.mask
            if not mask.any():
                return None
            focus = self._pointer or (newest.width / 2, newest.height / 2)
            region = piece(newest, mask, STILL_SECONDS / self._still_pixel_seconds, focus)
        elif self._ahead:
            return None
        else:
            region = whole(newest)
        return Plan(region, self._fidelity(selection, EXACT), EXACT, still=True)

    @property
    def _can_settle(self) -> bool:
        return bool(self.selection and self.selection.exact and self.selection.lossy)

    @property
    def _still_pixel_seconds(self) -> float:
        """What a pixel of a still takes from the hub to the canvas."""
        costs, link = self.scene.costs, self.link
        rate = link.rate or self.options.bitrate / 8
        drawing = link.draw_seconds.get(True, _GUESSED_DRAWING)
        return drawing + costs.nbytes(EXACT, 1) / rate

    # Figures and times ------------------------------------------------------------------------------------------------

    def stats(self, now: float) -> list[Message]:
        """A stats message when one is due and something was sent since the last; a viewer at rest costs nothing."""
        interval, mark, counters = self.options.stats_interval, self._mark, self.counters
        if interval is None or now < mark.at + interval or counters.frames_sent == mark.sent:
            return []
        seconds = now - mark.at
        budget = {"target_bitrate": 8 * self.link.budget} if math.isfinite(self.link.budget) else {}
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
                **budget,
            )
        ]

    def metrics(self) -> dict[str, float]:
        """The counters, with what is in flight."""
        return asdict(self.counters) | {
            "inflight": len(self._in_flight),
            "visible": self.visible,
            "lossy_tiles": self._picture.lossy_tiles,
            "link_bps": 8 * self.link.rate,
        }

    def check(self, now: float) -> None:
        """Raise `ProtocolError` with 4408 once the viewer's time for hello or for an acknowledgement is over."""
        if now < self.closes_at:
            return
        if self.selection is None:
            raise ProtocolError(CloseCode.TIMED_OUT, f"no hello within {HELLO_TIMEOUT:.0f} s")
        raise ProtocolError(CloseCode.TIMED_OUT, f"nothing was acknowledged for {ACK_TIMEOUT:.0f} s")

    @property
    def next_look(self) -> float:
        """When to ask `plan` and `stats` again though nothing came; infinity when nothing is pending."""
        look = self._look
        if self.options.stats_interval and self.counters.frames_sent > self._mark.sent:
            look = min(look, self._mark.at + self.options.stats_interval)
        return look

    @property
    def options(self) -> StreamOptions:
        return self.scene.options

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
        return self._waiting_since + ACK_TIMEOUT if self._in_flight else math.inf

    @property
    def _waiting_since(self) -> float:
        return max(self._last_ack, self._in_flight[0].at)

    def _config_if_new(self, tiles: TileMap) -> list[Message]:
        assert self.selection
        meaning = tiles.pixel_ratio, tiles.color
        config = config_message(tiles.width, tiles.height, self.selection, self.options.alpha, *meaning)
        if config == self._config:
            return []
        self._config = config
        return [config]
