"""One viewer's state machine. It does no I/O and reads no clock: every call gets the time in seconds.

Inputs are messages, the newest frame's map, and encoded payloads. Outputs are what to encode next, what to send, and
when to look again. Everything that affects the flow of one viewer lives here:

- a viewer is *stale* while a newer frame exists than it was sent, and *ready* when its window has room;
- it is sent what changed as soon as it is both, so frames are skipped before encoding and the last is never lost;
- a payload is in flight until it, or a later one, is acknowledged: a viewer never draws a smaller seq after a larger;
- without any acknowledgement for long, one probe goes beyond the window; without one for `ACK_TIMEOUT`, it is closed;
- what is lossy and at rest is sent again exactly, in pieces that leave room for a new frame (`refresh`);
- a subscriber of a shared encoder gets its frames from there, and only stills are planned here (`shared_encoders`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .._frames.chunk import Chunk
from .._frames.damage import TileMap
from ..limits import ACK_TIMEOUT, HELLO_TIMEOUT, PROBE_AFTER, Limits
from ..metrics import SessionMetrics
from ..protocol import (
    CHANNELS,
    CLIPBOARD,
    Ack,
    CloseCode,
    DecoderReset,
    Event,
    Got,
    Hello,
    ProtocolError,
    RequestKeyframe,
    Said,
    SetViewport,
    chunk_header,
    config_message,
    negotiate,
    pack_header,
    parse,
    picture_header,
    set_quality_message,
    stats_message,
    tiles_header,
)
from ..types import Encoded, EncoderKey, EventDict, Message, Selection, StreamOptions
from .framebuffer import ClientFramebuffer, Region, whole
from .outbox import Inbox, Outbox
from .policy.bandwidth import EXACT, BandwidthEstimator, Kind
from .policy.delivery import DeliveryPolicy
from .refresh import LosslessRefresh
from .shared_encoders import HELD_SHARE, JOIN_INTERVAL
from .stream_state import EncodePlan, StreamState

_WINDOW = 2
"""Payloads that keep a viewer busy at low latency."""
_MOST_TRAVELLING = 14
"""Most payloads that may be in transit besides, at high latency."""
_SURELY_CARRIED = 32 * 1024
"""Bytes that may be in transit before anything was measured."""
_MOST_SKIPPED = 0.15
"""Seconds without images, of each second, in which a viewer waits to join a shared encoder."""
_ENVELOPE = 256
"""Bytes of a message besides its data."""
EXACT_WASTE = 4
"""Unchanged tiles that may be sent to save a rectangle, whose own cost is about theirs."""


@dataclass(slots=True)
class _Sent:
    seq: int
    at: float
    nbytes: int
    pixels: int
    kind: Kind
    still: bool


@dataclass(slots=True, eq=False)
class ViewerSession:
    """The state of one viewer. Owned by the hub's thread.

    `authorize` is called with the first message and raises `ProtocolError` to refuse it. *local* says that the viewer's
    page comes from this machine.
    """

    state: StreamState
    authorize: Callable[[Hello], None]
    started: float
    local: bool = False
    hub: dict[str, object] = field(default_factory=dict)
    """The hub's id and version, for `config`."""
    limits: Limits = field(default_factory=Limits)
    selection: Selection | None = None
    viewport: SetViewport | None = None
    resized_at: float = -math.inf
    """Time at which the viewport last changed."""
    visible: bool = True
    outbox: Outbox = field(init=False)
    """The messages that wait to be sent."""
    metrics: SessionMetrics = field(init=False)
    bandwidth: BandwidthEstimator = field(init=False)
    _inbox: Inbox = field(init=False)
    _supported: tuple[str, ...] = ()
    _no_video: str = ""
    _framebuffer: ClientFramebuffer = field(default_factory=ClientFramebuffer)
    _refresh: LosslessRefresh = field(init=False)
    _policy: DeliveryPolicy = field(init=False)
    _steered: tuple[int, bool] | None = None
    """The newest version, and whether video worked, when the delivery was last chosen."""
    _subscribed: bool = False
    _refused: ProtocolError | None = None
    _send_again: bool = False
    _chunks: deque[Chunk] = field(default_factory=deque)
    """Chunks of its shared encoder, to be sent before anything else."""
    _chunk_seq: int | None = None
    _config: str = ""
    _config_of: tuple[object, int] | None = None
    """The inputs that `_config` was made from."""
    _codec: str | None = None
    """The codec that the last config named."""
    _target: tuple[float, float] = (math.inf, math.inf)
    _seq: int = 0
    _in_flight: deque[_Sent] = field(default_factory=deque)
    _look: float = math.inf
    _frame_at: float = -math.inf
    _skips_from: float = -math.inf
    _last_ack: float = 0.0
    _told: tuple[float, int] = field(init=False)
    """Time at which figures were last sent, and the number of frames sent by then."""

    def __post_init__(self) -> None:
        self.metrics = SessionMetrics(self.started, self.started)
        self._told = self.started, 0
        self.bandwidth = BandwidthEstimator(self.local, self.options.bitrate)
        self._policy = DeliveryPolicy(self.state, self.bandwidth)
        self._refresh = LosslessRefresh(self.state, self._framebuffer, self.bandwidth)
        self.outbox = Outbox(self.limits.channel_queue)
        self._inbox = Inbox(self._most_said)

    # Input ------------------------------------------------------------------------------------------------------------

    def receive(self, message: str | bytes, now: float) -> EventDict | Said | None:
        """Takes one message; returns the input event or the application's message in it, if it holds one. Raises
        `ProtocolError` for what violates the protocol."""
        whole = self._inbox.take(message) if self.takes(CHANNELS) else message
        if whole is None:
            return None
        parsed = parse(whole, binary=self.takes(CHANNELS))
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
                # Viewers drop chunks whose references they lack, and never acknowledge them.
                self._in_flight = deque(sent for sent in self._in_flight if sent.kind != "video")
                self._begin_again()
            case DecoderReset():
                self._in_flight.clear()
                self._begin_again()
            case Event({"type": "paste"}) if not self.options.clipboard:
                return None
            case Event({"type": "resize"} as event) if self._is_told_of(event):
                return None
            case Event(event):
                self._notice(event)
                return event
            case Got(piece):
                self.outbox.got(piece)
            case Said() if self.takes(CHANNELS):
                if len(whole) > self._most_said:
                    most = self.limits.channel_bytes
                    raise ProtocolError(CloseCode.OVER_LIMIT, f"a message of a channel holds at most {most} bytes")
                return replace(parsed, nbytes=len(whole))
            case None | Said():
                self.metrics.unknown_messages += 1
        return None

    def restarted(self) -> None:
        """Resets for a stream with new options and no frame yet; the viewer keeps its image until there is one."""
        self._look = math.inf
        self._refresh.forget()
        self.reconfigured(redraw=False)

    def reconfigured(self, *, redraw: bool) -> None:
        """Adopts the stream's new options; with *redraw* what the viewer has drawn doesn't count any more."""
        self._send_again |= redraw
        self._unsubscribe()
        self.bandwidth.bitrate = self.options.bitrate
        self._policy = DeliveryPolicy(self.state, self.bandwidth)
        self._codec = None
        if self.selection:
            try:
                self.selection = negotiate(self._supported, self.options, self.state.codecs)
            except ProtocolError as refused:
                self._refused = refused  # for this viewer alone: the next `plan` raises it

    def keep_to(self, limits: Limits) -> None:
        """Adopts new limits."""
        self.limits = limits
        self.outbox.most, self._inbox.most = limits.channel_queue, self._most_said

    def gone(self) -> None:
        """Call it when nothing more can be sent."""
        self._unsubscribe()

    def enqueue(self, chunk: Chunk) -> None:
        """Queues a frame of the shared encoder that the viewer subscribes to."""
        self._chunks.append(chunk)

    def evicted(self, encoder: EncoderKey, now: float) -> None:
        """Records that the viewer was too slow for the other subscribers of *encoder*, and was evicted."""
        self._policy.evicted(encoder, now)
        self._steered = None

    def _open(self, hello: Hello) -> None:
        self.authorize(hello)
        self._supported, self._no_video = hello.supported, hello.no_video
        self.selection = negotiate(hello.supported, self.options, self.state.codecs)

    def _begin_again(self) -> None:
        """Starts over: what the viewer has decoded and drawn is lost."""
        self._send_again = True
        self._unsubscribe()

    def _unsubscribe(self) -> None:
        self.state.encoders.leave(self)
        self._chunks.clear()
        self._steered = None

    def _notice(self, event: EventDict) -> None:
        if event["type"] in ("show", "hide"):
            self.visible = event["type"] == "show"
            self._unsubscribe()
        elif event["type"] in ("pointer_move", "pointer_down", "wheel") and event.keys() >= {"x", "y"}:
            self._refresh.pointer = event["x"], event["y"]

    def _acknowledge(self, ack: Ack, now: float) -> None:
        if ack.seq > self._seq:
            raise ProtocolError(CloseCode.MALFORMED, f"seq {ack.seq} was acknowledged and never sent")
        queued = ack.decode_queue_size
        while self._in_flight and self._in_flight[0].seq <= ack.seq:
            self._last_ack = now
            sent = self._in_flight.popleft()
            rtt = now - sent.at if sent.seq == ack.seq else None
            self.metrics.record_ack(rtt_ms=rtt and 1000 * rtt, decode_queue_size=queued, now=now, still=sent.still)
            if rtt is not None:
                drawing = None if ack.draw_ms is None else ack.draw_ms / 1000
                self.bandwidth.acknowledged(sent.nbytes, sent.pixels, sent.kind, rtt, drawing, now)

    @property
    def _most_said(self) -> int:
        return self.limits.channel_bytes + _ENVELOPE

    # Output -----------------------------------------------------------------------------------------------------------

    def takes(self, capability: str) -> bool:
        """True if the viewer knows this *capability* beyond the base protocol, and the stream has it."""
        return capability in self._supported and (capability != CLIPBOARD or self.options.clipboard)

    @property
    def stale(self) -> bool:
        """True if a newer frame exists than the viewer was sent, or the newest has to be sent again."""
        newest = self.state.newest
        return newest is not None and (newest.version > self._framebuffer.version or self._send_again)

    @property
    def ready(self) -> bool:
        """True if the viewer would show the next frame at once: open, visible, up to date, with room in the window."""
        return self._may_be_fed and not self.stale and self._unacknowledged < self._window

    @property
    def only_video_serves(self) -> bool:
        """True if only a keyframe of video can serve it: it takes no images, or can't return from them."""
        selection = self.selection
        return bool(
            selection and (not selection.pictures or (self._subscribed and self._codec and not selection.tiles))
        )

    @property
    def still_due(self) -> float:
        """Time from which a finer keyframe of what was sent as video may follow; infinity if images refine it."""
        newest, selection = self.state.newest, self.selection
        if newest is None or selection is None or selection.pictures or self.stale or not self._framebuffer.lossy_tiles:
            return math.inf
        return self.state.publish_rate.rests_at(newest.version)

    @property
    def too_slow(self) -> bool:
        """True if the viewer takes frames too slowly to share an encoder."""
        return self._turnaround * self.state.publish_rate.fps * (1 - HELD_SHARE) > 1

    @property
    def scale(self) -> float:
        """The share of the publisher's own size that this viewer could keep up with; 1 for all of it."""
        return self._policy.step.scale

    def plan(self, now: float) -> EncodePlan | None:
        """Returns what to encode for this viewer now, of the newest frame; if nothing, `next_look` says when to ask."""
        if self._refused:
            raise self._refused
        newest, selection = self.state.newest, self.selection
        self._look = math.inf
        if newest is None or selection is None or not self.visible:
            return None
        self._steer(newest, selection, now)
        # The last place in the window is for a new frame.
        still_has_place = self._unacknowledged < max(1, self._window - 1)
        if not self.stale:
            if not still_has_place:
                return None
            plan, self._look = self._refresh.next(newest, selection, now)
            return plan
        if (look := self.video_room_at(now)) > now:
            self._look = look
            return None
        if still_has_place and not self._send_again:
            still = self._refresh.over_motion(newest, selection, self.metrics.frames_sent, now)
            if still:
                return still
        if self.state.encoders.feeds(self, newest) or self.only_video_serves:
            return None
        if (look := self._waits_to_join(newest, now)) > now:
            self._look = look
            return None
        return self._plan_frame(newest, selection, now)

    def _waits_to_join(self, newest: TileMap, now: float) -> float:
        """Returns until when to skip images for the keyframe of a shared encoder: they would use up the budget, so that
        the encoder never found room. For a moment each time: its encoder may hang."""
        if not self._framebuffer.version or not self.state.encoders.let_join(self, now):
            return now
        if now - self._skips_from > JOIN_INTERVAL:
            self._skips_from = now
        next_frame = newest.timestamp_us / 1e6 + 1.5 / self.state.publish_rate.fps
        return min(next_frame, self._skips_from + _MOST_SKIPPED)

    def plan_ahead(self, now: float) -> EncodePlan | None:
        """Returns a still to encode in advance, so that it can be sent on time."""
        newest, selection = self.state.newest, self.selection
        if newest is None or selection is None or self.stale or not self.visible:
            return None
        plan, look = self._refresh.ahead(newest, selection, now)
        self._look = min(self._look, look)
        return plan

    def still_wanted(self, plan: EncodePlan) -> bool:
        """True if nothing in the planned still has changed meanwhile."""
        return self._refresh.wanted(plan)

    def greet(self, width: int, height: int) -> list[Message]:
        """Returns the answer to hello: the config of a stream that is *width* by *height* now."""
        newest = self.state.newest
        return self._config_if_new(newest if newest else TileMap.whole(width, height, 0))

    def send(self, plan: EncodePlan, encoded: Encoded, now: float) -> list[Message]:
        """Returns the planned region as messages to send now, in this order; it is in flight from here on."""
        assert self.selection
        tiles = plan.region.tiles
        if self._codec and not self.selection.tiles:
            # A base viewer must be told what comes next, and may build another decoder when video returns.
            self._codec = None
            self._unsubscribe()
        messages = self._config_if_new(tiles)
        make = tiles_header if self.selection.tiles else picture_header
        header = make(self._seq + 1, tiles, encoded)
        if plan.still:
            header["still"] = True
        self._framebuffer.drawn(plan.region, ((part.rect, part.exact) for part in encoded.parts))
        kind: Kind = "exact" if all(part.exact for part in encoded.parts) else "lossy"
        messages.append(self._account(header, encoded.payload, plan.region.pixels, kind, plan.still, now))
        if plan.still:
            self._refresh.sent(self.metrics.frames_sent)
        else:
            self._account_frame(plan.region, encoded.encode_ms, now)
        return messages

    def send_chunk(self, now: float) -> list[Message]:
        """Returns the next access unit of its shared encoder as messages; empty when there is none."""
        if not self._chunks or not self.selection:
            return []
        chunk = self._chunks.popleft()
        tiles, by_rects = chunk.tiles, self.selection.tiles
        region = whole(tiles) if self._send_again or chunk.still or not by_rects else self._framebuffer.behind(tiles)
        self._codec = chunk.codec
        messages = self._config_if_new(tiles)
        header = chunk_header(self._seq + 1, chunk, region.rects if by_rects else None, self._chunk_seq)
        if chunk.still:
            header["still"] = True
        self._chunk_seq = self._seq + 1
        # A still is as exact as video gets: it is not sent again.
        self._framebuffer.drawn(region, ((rect, chunk.still or chunk.rung == EXACT) for rect in region.rects))
        pixels = tiles.width * tiles.height
        messages.append(self._account(header, chunk.payload, pixels, "video", chunk.still, now))
        if not chunk.still:
            self._account_frame(region, chunk.encode_ms, now)
            self._policy.weigh(region.pixels)
        return messages

    def _account(
        self, header: dict[str, Any], payload: bytes, pixels: int, kind: Kind, still: bool, now: float
    ) -> Message:
        self._seq += 1
        packed = pack_header(header)
        nbytes = len(packed) + len(payload)
        self.bandwidth.sent(nbytes, now)
        self._in_flight.append(_Sent(self._seq, now, nbytes, pixels, kind, still))
        keyframe = header.get("keyframe", True)
        self.metrics.record_sent(payload_bytes=nbytes, keyframe=keyframe, now=now, still=still)
        return packed, payload

    def _account_frame(self, region: Region, encode_ms: float, now: float) -> None:
        version, shown = region.tiles.version, self._framebuffer.version
        if shown and version > shown + 1:
            self.metrics.record_dropped(now=now, frames=version - shown - 1)
        self.metrics.record_encode(encode_ms, now=now)
        self._frame_at = now
        # A keyframe may be older than the images that a viewer got while it waited.
        self._framebuffer.version = max(version, shown)
        if region.whole:
            self._send_again = False

    # Images or video --------------------------------------------------------------------------------------------------

    def video_room_at(self, now: float) -> float:
        """Returns when window, budget and frame rate have room; infinity until the viewer sends something."""
        over = self._unacknowledged - self._window
        if not self.visible or over > 0 or (over == 0 and self._chunks):
            return math.inf
        step = self._policy.step
        next_frame = self._frame_at + 0.9 / (step.fps * self.state.publish_rate.fps) if step.fps < 1 else now
        return max(self.bandwidth.next_send(now), next_frame, self._probe_at if over == 0 else now)

    def _steer(self, newest: TileMap, selection: Selection, now: float) -> None:
        """Chooses once a frame if it comes as video, and from which shared encoder."""
        asked = newest.version, self.state.video_works
        if asked == self._steered:
            return
        self._steered = asked
        if not (self.state.video_works or selection.pictures):
            raise ProtocolError(CloseCode.NO_FORMAT, "the hub can't encode video, and the viewer takes nothing else")
        encoder = self._policy.encoder(newest.width * newest.height, selection, self._turnaround, now)
        if selection.video:
            self._subscribed = self.state.encoders.place(self, encoder, must=not selection.pictures)

    # Images -----------------------------------------------------------------------------------------------------------

    def _plan_frame(self, newest: TileMap, selection: Selection, now: float) -> EncodePlan:
        everything = self._send_again or not selection.tiles
        region = whole(newest) if everything else self._framebuffer.behind(newest)
        self._policy.weigh(region.pixels)
        rung = self._policy.rung(region.pixels, selection, now)
        if rung == EXACT and not everything:
            # Fewer rectangles cost less than a few tiles; lossy ones would turn exact tiles lossy.
            region = self._framebuffer.behind(newest, EXACT_WASTE)
        return EncodePlan(region, self._policy.fidelity(selection, rung), rung, still=False)

    # Figures and times ------------------------------------------------------------------------------------------------

    def stats(self, now: float) -> list[Message]:
        """Returns a stats message when due, if something was sent since the last; a viewer at rest costs nothing."""
        interval, metrics = self.options.stats_interval, self.metrics
        at, frames = self._told
        if interval is None or now < at + interval or metrics.frames_sent == frames:
            return []
        self._told = now, metrics.frames_sent
        budget = {"target_bitrate": 8 * self.bandwidth.budget} if math.isfinite(self.bandwidth.budget) else {}
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

    def _set_quality(self) -> list[Message]:
        """Returns a message with the hub's bit rate and frame rate, where these have changed enough to tell."""
        rate, fps = 8 * self.bandwidth.budget, self._target_fps
        told_rate, told_fps = self._target
        if not math.isfinite(rate) or (0.9 < rate / told_rate < 1.1 and fps == told_fps):
            return []
        self._target = rate, fps
        return [set_quality_message(rate, fps)]

    @property
    def _target_fps(self) -> float:
        return self.options.fps * self._policy.step.fps

    def snapshot(self, now: float) -> dict[str, float | str]:
        """Returns the figures, as JSON can express them."""
        budget = 8 * self.bandwidth.budget
        self.metrics.inflight = self._unacknowledged
        self.metrics.target_fps = self._target_fps
        self.metrics.target_bitrate = round(budget) if math.isfinite(budget) else 0
        return {
            **self.metrics.snapshot(now=now),
            "visible": self.visible,
            "lossy_tiles": self._framebuffer.lossy_tiles,
            "link_bps": 8 * self.bandwidth.rate,
            "no_video": self._no_video,
        }

    def check(self, now: float) -> None:
        """Raises `ProtocolError` with 4408 once the viewer's time for hello or for an acknowledgement is over."""
        if now < self.closes_at:
            return
        if self.selection is None:
            raise ProtocolError(CloseCode.TIMED_OUT, f"no hello within {HELLO_TIMEOUT:.0f} s")
        raise ProtocolError(CloseCode.TIMED_OUT, f"nothing was acknowledged for {ACK_TIMEOUT:.0f} s")

    @property
    def next_look(self) -> float:
        """Time to ask `plan` and `stats` again though nothing came; infinity when nothing is pending."""
        look = self._look
        at, frames = self._told
        if self.options.stats_interval and self.metrics.frames_sent > frames:
            look = min(look, at + self.options.stats_interval)
        return look

    @property
    def options(self) -> StreamOptions:
        return self.state.options

    @property
    def _may_be_fed(self) -> bool:
        return self.selection is not None and self.visible

    @property
    def _window(self) -> int:
        # No more than bandwidth times latency: what waits before it is lag.
        travelling = sum(sent.nbytes for sent in self._in_flight)
        room = self.bandwidth.budget * self.bandwidth.latency if self.bandwidth.rate else _SURELY_CARRIED
        return self._least_window + (self._may_travel if travelling < room else 0)

    @property
    def _least_window(self) -> int:
        return 1 if self._policy.step.narrow else self.options.max_inflight or _WINDOW

    @property
    def _may_travel(self) -> int:
        """Payloads in transit at high latency, besides those at the hub and at the viewer."""
        latency = self.bandwidth.latency
        if self._policy.step.narrow or self.options.max_inflight or math.isinf(latency):
            return 0
        return min(_MOST_TRAVELLING, int(latency * self.state.publish_rate.fps))

    @property
    def _unacknowledged(self) -> int:
        return len(self._in_flight) + len(self._chunks)

    @property
    def _rtt(self) -> float:
        return self.metrics.rtt_ms / 1000

    @property
    def _turnaround(self) -> float:
        """Seconds in which the viewer takes a frame."""
        return self._rtt / (self._least_window + self._may_travel)

    @property
    def _probe_at(self) -> float:
        return self._waiting_since + max(PROBE_AFTER, 4 * self._rtt)

    @property
    def closes_at(self) -> float:
        """Time at which `check` closes the viewer unless it sends something; infinity if nothing is due."""
        if self.selection is None:
            return self.started + HELLO_TIMEOUT
        return self._waiting_since + ACK_TIMEOUT if self._in_flight else math.inf

    @property
    def _waiting_since(self) -> float:
        return max(self._last_ack, self._in_flight[0].at) if self._in_flight else -math.inf

    def _is_told_of(self, event: EventDict) -> bool:
        """True if the stream itself puts this `resize` among the events, once frames should have that size."""
        box = self.viewport
        follows = self.options.resize_policy == "match_client"
        return follows and box is not None and all(event.get(name) == value for name, value in asdict(box).items())

    def _config_if_new(self, tiles: TileMap) -> list[Message]:
        assert self.selection
        options, size, meaning = self.options, tiles.size, (tiles.pixel_ratio, tiles.color)
        told = *size, self.selection, options.alpha, self._codec, *meaning, options.clipboard, options.resize_policy
        if self._config_of == (told, self.limits.channel_bytes):  # as for most frames: JSON takes longer
            return []
        self._config_of = told, self.limits.channel_bytes
        policy = {} if options.resize_policy == "publisher" else {"resize_policy": options.resize_policy}
        config = config_message(
            *(*size, self.selection, options.alpha, self._codec, *meaning, self._supported, self.hub | policy),
            options.clipboard,
            self.limits.channel_bytes,
        )
        if config == self._config:
            return []
        self._config = config
        return [config]
