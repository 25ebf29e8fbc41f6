"""One viewer's state machine. It does no I/O and reads no clock: every call gets the time in seconds.

Inputs are messages, the newest frame's map, and encoded payloads. Outputs are what to encode next, what to send, and
when to look again. The rules of its flow:

- a viewer is *stale* while a newer frame exists than it was sent, and *ready* when its window has room (`window`);
- it is sent what changed as soon as it is both, so frames are skipped before encoding and the last is never lost;
- a viewer never draws a smaller seq after a larger;
- what is lossy and at rest is sent again exactly, in pieces that leave room for a new frame (`refresh`);
- a subscriber of a shared encoder gets its frames from there, and only stills are planned here (`subscription`);
- a viewer that takes nothing but video is sent no images: a finer keyframe follows once its frame is at rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from .._frames.chunk import Chunk
from .._frames.damage import TileMap
from ..limits import ACK_TIMEOUT, HELLO_TIMEOUT, Limits
from ..metrics import SessionMetrics
from ..protocol import (
    CHANNELS,
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
    pack_header,
    parse,
)
from ..types import Encoded, EncoderKey, EventDict, Message, Selection
from .announcement import Announcement
from .client import Client
from .framebuffer import ClientFramebuffer, Region, whole
from .outbox import Inbox, Outbox
from .policy.bandwidth import EXACT, BandwidthEstimator
from .policy.delivery import DeliveryPolicy
from .policy.processor import Kind, ViewerProcessor
from .refresh import LosslessRefresh
from .shared_encoders import DELAY_SHARE
from .stream_state import EncodePlan, StreamState
from .subscription import Subscription
from .viewer_stats import ViewerStats
from .window import Window

_ENVELOPE = 256
"""Bytes of a message besides its data."""


class ViewerSession:
    """The state of one viewer. Owned by the hub's thread.

    `authorize` is called with the first message and raises `ProtocolError` to refuse it. *local* says that the viewer's
    page comes from this machine. *hub* is the hub's id and version, for `config`.
    """

    def __init__(
        self,
        state: StreamState,
        authorize: Callable[[Hello], None],
        started: float,
        local: bool = False,
        hub: dict[str, object] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.state = state
        self.limits = limits or Limits()
        self.outbox = Outbox(self.limits.channel_queue)
        """The messages that wait to be sent."""
        self.metrics = SessionMetrics(started, started)
        self.bandwidth = BandwidthEstimator(local, state.options.bitrate)
        self.window = Window(state, self.bandwidth, ViewerProcessor(shared=local), self.metrics)
        self.policy = DeliveryPolicy(state, self.bandwidth, self.window.processor)
        self.framebuffer = ClientFramebuffer(state.regions)
        self.client = Client(state, authorize)
        self.announcement = Announcement(state, self.client, {} if hub is None else hub, self.limits.channel_bytes)
        self._stats = ViewerStats(state, self.window, started)
        self._refresh = LosslessRefresh(state, self.framebuffer, self.bandwidth, self.window.processor)
        self._subscription = Subscription(state, self)
        self._inbox = Inbox(self.limits.channel_bytes + _ENVELOPE)
        self._look = math.inf

    # Input ------------------------------------------------------------------------------------------------------------

    def receive(self, message: str | bytes, now: float) -> EventDict | Said | None:
        """Takes one message; returns the input event or the application's message in it, if it holds one. Raises
        `ProtocolError` for what violates the protocol."""
        channels = self.client.takes(CHANNELS)
        whole = self._inbox.take(message) if channels else message
        if whole is None:
            return None
        parsed = parse(whole, binary=channels)
        if self.selection is None:
            if not isinstance(parsed, Hello):
                raise ProtocolError(CloseCode.MALFORMED, "the first message is hello")
            self.client.open(parsed)
            return None
        match parsed:
            case Ack():
                self.window.acknowledge(parsed, now)
            case SetViewport():
                self.client.resize(parsed, now)
            case RequestKeyframe():
                # Viewers drop chunks whose references they lack, and never acknowledge them.
                self.window.forget(video_only=True)
                self._begin_again()
            case DecoderReset():
                self.window.forget()
                self._begin_again()
            case Event(event):
                return self._notice(event)
            case Got(piece):
                self.outbox.got(piece)
            case Said() if channels:
                if len(whole) > self._inbox.most:
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
        self.framebuffer.lost |= redraw
        self._unsubscribe()
        self.bandwidth.allow(self.state.options.bitrate)
        self.policy = DeliveryPolicy(self.state, self.bandwidth, self.window.processor)
        self.window.step = self.policy.step
        self.announcement.codec = None
        self.client.negotiate()

    def keep_to(self, limits: Limits) -> None:
        """Adopts new limits."""
        self.limits = limits
        self.outbox.most, self._inbox.most = limits.channel_queue, limits.channel_bytes + _ENVELOPE
        self.announcement.channel_bytes = limits.channel_bytes

    def gone(self) -> None:
        """Call it when nothing more can be sent."""
        self._unsubscribe()

    def enqueue(self, chunk: Chunk) -> None:
        """Queues a frame of the shared encoder that the viewer subscribes to."""
        self.window.queue.append(chunk)

    def evicted(self, encoder: EncoderKey, now: float) -> None:
        """Records that the viewer was too slow for the other subscribers of *encoder*, and was evicted."""
        self.policy.evicted(encoder, now)
        self._subscription.choose_again()

    def _begin_again(self) -> None:
        """Starts over: what the viewer has decoded and drawn is lost."""
        self.framebuffer.lost = True
        self._unsubscribe()

    def _unsubscribe(self) -> None:
        self._subscription.leave()
        self.window.queue.clear()

    def _notice(self, event: EventDict) -> EventDict | None:
        """Takes an input event; returns it unless the application doesn't get it."""
        if self.client.is_withheld(event):
            return None
        if event["type"] in ("show", "hide"):
            self.client.visible = event["type"] == "show"
            self._unsubscribe()
        elif event["type"] in ("pointer_move", "pointer_down", "wheel") and event.keys() >= {"x", "y"}:
            self._refresh.pointer = event["x"], event["y"]
        return event

    # What is due ------------------------------------------------------------------------------------------------------

    @property
    def stale(self) -> bool:
        """True if a newer frame exists than the viewer was sent, or the newest has to be sent again."""
        newest = self.state.newest
        if newest is None:
            return False
        return bool(self.state.pending) or newest.version > self.framebuffer.version or self.framebuffer.lost

    @property
    def has_room(self) -> bool:
        """True if the viewer can be sent a frame: open, visible, with room in the window."""
        client = self.client
        return client.selection is not None and client.visible and not self.window.full

    @property
    def only_video_serves(self) -> bool:
        """True if the viewer takes no images."""
        return bool(self.selection and not self.selection.pictures)

    @property
    def still_due(self) -> float:
        """Time from which a finer keyframe of what was sent as video may follow; infinity if images refine it."""
        newest = self.state.newest
        if newest is None or not self.only_video_serves or self.stale or not self.framebuffer.lossy_tiles:
            return math.inf
        return self.state.publish_rate.rests_at(newest.version)

    @property
    def too_slow(self) -> bool:
        """True if the viewer takes frames too slowly to share an encoder."""
        return self.window.turnaround * self.state.publish_rate.fps * (1 - DELAY_SHARE) > 1

    def video_room_at(self, now: float) -> float:
        """Returns when window, budget and frame rate have room; infinity until the viewer sends something."""
        return self.window.room_at(now) if self.client.visible else math.inf

    def plan(self, now: float) -> EncodePlan | None:
        """Returns what to encode for this viewer now, of the newest frame; if nothing, `next_look` says when to ask."""
        self.client.check_formats()
        newest, selection = self.state.newest, self.selection
        self._look = math.inf
        if newest is None or selection is None or not self.visible:
            return None
        self._subscription.choose(self.policy, self.window, newest, selection, now)
        if not self.stale:
            if not self.window.still_fits:
                return None
            plan, self._look = self._refresh.next(newest, selection, now)
            return plan
        if (look := self.window.room_at(now)) > now:
            self._look = look
            return None
        if self.state.pending:
            self._look = now  # to plan for the newest frame, which is taken then
            return None
        if self.window.still_fits and not self.framebuffer.lost:
            still = self._refresh.over_motion(newest, selection, self.metrics.frames_sent, now)
            if still:
                return still
        encoders = self.state.encoders
        if not selection.pictures or (encoders and encoders.feeds(self, newest)):
            return None
        if encoders and self.framebuffer.version and (look := self._subscription.skips_until(newest, now)) > now:
            self._look = look
            return None
        return self.policy.plan(self.framebuffer, newest, selection, now)

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

    def rests(self, now: float) -> bool:
        """Returns True if nothing more is to be sent before a newer frame, a message other than an acknowledgement, or
        `next_look`."""
        newest, selection = self.state.newest, self.selection
        if newest is None or selection is None or self.stale or self.window.queue or not self.outbox.empty:
            return False
        look = self._refresh.ahead_at(newest, selection)
        if min(look, self._stats.due) <= now or (selection.video and self.state.encoders):
            return False
        self._look = look
        return True

    # Output -----------------------------------------------------------------------------------------------------------

    def greet(self, width: int, height: int) -> list[Message]:
        """Returns the answer to hello: the config of a stream that is *width* by *height* now."""
        return self.announcement.of(self.state.format or TileMap.whole(width, height, 0))

    def send(self, plan: EncodePlan, encoded: Encoded, now: float) -> list[Message]:
        """Returns the planned region as messages to send now, in this order; it is in flight from here on."""
        region = plan.region
        assert self.selection
        by_tiles = self.selection.tiles
        if self.announcement.codec and not by_tiles:
            # A base viewer must be told what comes next, and may build another decoder when video returns.
            self.announcement.codec = None
            self._unsubscribe()
        messages = self.announcement.of(region.tiles)
        seq, still = self.window.seq + 1, plan.still
        header = self.state.headers.of(seq, region.tiles, encoded, by_tiles=by_tiles, still=still)
        self.framebuffer.drawn(region, [(part.rect, part.exact) for part in encoded.parts])
        kind: Kind = "exact" if all([part.exact for part in encoded.parts]) else "lossy"
        messages.append((header, encoded.payload))
        self.window.sent(len(header) + len(encoded.payload), region.pixels, kind, now, keyframe=True, still=still)
        if plan.still:
            self._refresh.sent(self.metrics.frames_sent)
        else:
            self._account_frame(region, encoded.encode_ms, now)
        return messages

    def send_chunk(self, now: float) -> list[Message]:
        """Returns the next access unit of its shared encoder as messages; empty when there is none."""
        window, selection = self.window, self.selection
        if not window.queue or not selection:
            return []
        chunk = window.queue.popleft()
        tiles, by_rects = chunk.tiles, selection.tiles
        region = self.framebuffer.behind(tiles) if by_rects and not chunk.still else whole(tiles)
        self.announcement.codec = chunk.codec
        messages = self.announcement.of(tiles)
        header = chunk_header(window.seq + 1, chunk, region.rects if by_rects else None, window.chunk_seq)
        # A still is as exact as video gets: it is not sent again.
        self.framebuffer.drawn(region, [(rect, chunk.still or chunk.rung == EXACT) for rect in region.rects])
        if chunk.still:
            header["still"] = True
        packed, pixels = pack_header(header), tiles.width * tiles.height
        messages.append((packed, chunk.payload))
        nbytes = len(packed) + len(chunk.payload)
        self.window.sent(nbytes, pixels, "video", now, keyframe=chunk.keyframe, still=chunk.still)
        if not chunk.still:
            self._account_frame(region, chunk.encode_ms, now)
            self.policy.weigh(region.pixels)
        return messages

    def _account_frame(self, region: Region, encode_ms: float, now: float) -> None:
        self.metrics.record_dropped(now=now, frames=self.framebuffer.advance(region))
        self.metrics.record_encode(encode_ms, now=now)
        self.window.frame_at = now

    # Figures and times ------------------------------------------------------------------------------------------------

    def stats(self, now: float) -> list[Message]:
        """Returns a stats message when due, if something was sent since the last."""
        return self._stats.stats(now)

    def snapshot(self, now: float) -> dict[str, float | str]:
        """Returns the figures, as JSON can express them."""
        return self._stats.snapshot(now) | {
            "visible": self.visible,
            "lossy_tiles": self.framebuffer.lossy_tiles,
            "no_video": self.client.no_video,
            "limit": self.policy.limit,
        }

    def check(self, now: float) -> None:
        """Raises `ProtocolError` with 4408 once the viewer's time for hello or for an acknowledgement is over."""
        if now < self.closes_at:
            return
        missing = f"nothing was acknowledged for {ACK_TIMEOUT:.0f} s"
        if self.selection is None:
            missing = f"no hello within {HELLO_TIMEOUT:.0f} s"
        raise ProtocolError(CloseCode.TIMED_OUT, missing)

    @property
    def closes_at(self) -> float:
        """Time at which `check` closes the viewer unless it sends something; infinity if nothing is due."""
        return self.window.closes_at if self.client.selection else self.metrics.started_at + HELLO_TIMEOUT

    @property
    def next_look(self) -> float:
        """Time to ask `plan` and `stats` again though nothing came; infinity when nothing is pending."""
        return min(self._look, self._stats.due)

    # What its parts know ----------------------------------------------------------------------------------------------

    def takes(self, capability: str) -> bool:
        """True if the viewer knows this *capability* beyond the base protocol, and the stream has it."""
        return self.client.takes(capability)

    @property
    def selection(self) -> Selection | None:
        """The formats agreed on; None before the viewer's hello."""
        return self.client.selection

    @property
    def viewport(self) -> SetViewport | None:
        return self.client.viewport

    @property
    def visible(self) -> bool:
        return self.client.visible
