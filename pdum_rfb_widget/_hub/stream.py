"""One stream: its newest frame, the encodings of that frame, and the viewers that receive them.

Threads: publishers use the frame store and the readiness flag, both guarded by locks; everything else belongs to the
hub's loop. A frame is announced to the loop by one wake-up, then goes to an encoder thread and back. More hand-offs
between threads would cost frames while a cell computes in pure Python.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Protocol, cast

from .._core.sizing import Sizing, Target
from .._core.stream_state import EncodePlan, StreamState
from .._encode.jobs import EncodeJob
from .._encode.pool import HELD_UP, Pool
from .._encode.video import VideoScheduler
from .._frames.damage import Mask, TileMap
from .._frames.store import Frame, FrameStore, Outcome
from .._system.interrupts import uninterrupted
from ..events import Event, EventDict
from ..limits import ENCODE_TIMEOUT
from ..protocol import CHANNELS, CloseCode, Said, cursor_message
from ..transport import TransportClosed
from ..types import (
    ChannelMessage,
    ColorSpace,
    DownscaleHint,
    Encoded,
    Fidelity,
    InputEvent,
    Message,
    Pixels,
    Rect,
    StreamEvent,
    StreamOptions,
)
from .event_log import EventLog
from .viewer import ViewerConnection

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """The publisher of a stream, which also receives the input of its viewers."""

    def put_event(self, event: StreamEvent) -> None: ...

    def put_message(self, message: ChannelMessage, nbytes: int) -> None: ...


_CURSOR = "rfb/cursor"
"""A channel reserved for the package: application channels have no slash."""
_MAX_ENCODINGS = 32
"""Number of encodings kept for viewers to share."""
_KEPT_TROUBLES = 20
_MOST_THAT_HANG = 2
"""How many encodings of a stream may hang, each blocking a thread of the hub, before the stream starts no more."""
_LONGEST = threading.TIMEOUT_MAX / 2
"""Longest wait for a lock in one call, in seconds."""
_KEPT_FRAMES = 2
"""An encoding that is not requested for this many frames is dropped."""


@dataclass(slots=True)
class _Shared:
    """An encoding, in progress or done, and the frame version at its last request."""

    future: asyncio.Future[Encoded]
    used: int


class _Soon:
    """Calls *function* once in the loop's next iteration, however often it is requested. The function visits every
    viewer, so one call per viewer would cost the square of their number."""

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
        self._loop, self._function = loop, function
        self._pending = False

    def __call__(self) -> None:
        if not self._pending:
            self._pending = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._pending = False
        self._function()


def now_us() -> int:
    return time.monotonic_ns() // 1000


class Stream:
    """A named stream of the hub. Displays publish into it one after another; the stream outlives each of them."""

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        options: StreamOptions,
        loop: asyncio.AbstractEventLoop,
        pool: Pool,
        threads: int,
    ) -> None:
        self.name = name
        self.state = StreamState(options, size)
        self.viewers: set[ViewerConnection] = set()
        self.viewed = False
        """True once any viewer has connected."""
        self.recent_errors: deque[str] = deque(maxlen=_KEPT_TROUBLES)
        """The most recent errors, each with its time of day; the log has all of them."""
        self.controller: str | None = None
        """Id of the only viewer whose input is accepted; None accepts every viewer's."""
        self._cursor: str | None = None
        self._first_size = size
        self._loop = loop
        self._pool = pool
        self._threads = threads
        self._frames = FrameStore()
        self._video = VideoScheduler(self.state, self.hold, self.release, self._changed, self.note_error)
        self.step_video = _Soon(loop, self._video.step)
        """Run the video scheduler: some viewer may have room for a frame, or use another encoder."""
        self.update_readiness = _Soon(loop, self._update_readiness)
        """Recompute the flag that `wait_ready` waits for."""
        self._sizing = Sizing(options)
        self._settling: asyncio.TimerHandle | None = None
        self._hang = 0
        self._encodings: dict[tuple[Fidelity, tuple[Rect, ...], int], _Shared] = {}
        self._publisher: Publisher | None = None
        self._event_log: EventLog | None = None
        self._listeners: tuple[Callable[[], object], ...] = ()
        # A plain lock is acquired and released in C: an interrupt of the publisher's cell can't leave it locked.
        self._lock = threading.Lock()
        self._waiting: set[threading.Lock] = set()
        self._wake_pending = False
        self._is_ready = False
        self._rests_until = 0.0
        self._advised = 1.0

    # Any thread -------------------------------------------------------------------------------------------------------

    @property
    def frames_published(self) -> int:
        return self._frames.count

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the newest frame in pixels; before the first frame, the requested size."""
        newest = self._frames.newest
        return newest.size if newest else self._first_size

    @property
    def newest(self) -> TileMap | None:
        """Tile map of the newest frame; None before the first."""
        return self._frames.newest

    @property
    def target(self) -> Target | None:
        """The frame size that the viewers request."""
        return self._sizing.target

    @property
    def options(self) -> StreamOptions:
        return self.state.options

    @property
    def recorded_events(self) -> list[Event]:
        """With ``record_events``: the received input, oldest first."""
        return self._event_log.kept if self._event_log else []

    def forget_recorded_events(self) -> None:
        if self._event_log:
            self._event_log.forget()

    def publish(
        self,
        publisher: Publisher,
        pixels: Pixels,
        damage: Mask | None,
        pixel_ratio: float = 1.0,
        color: ColorSpace | None = None,
        rendered_us: int | None = None,
    ) -> bool:
        """Make *pixels* the newest frame; False once another publisher has taken the stream over.

        Never waits for a viewer. Raises `RuntimeError` when the hub was closed.
        """
        outcome = self._frames.put(
            pixels,
            now_us(),
            copy=self.options.own_frames,
            damage=damage,
            still_wanted=lambda: self._publisher is publisher,
            pixel_ratio=pixel_ratio,
            color=color,
            rendered_us=rendered_us,
        )
        if outcome is Outcome.REFUSED:
            return False
        if outcome is Outcome.UNCHANGED:
            # An unchanged frame keeps viewers ready, so nothing else slows a loop of wait_ready() and publish().
            self._rests_until = time.monotonic() + 0.5 / self.options.fps
        # Also announces an unchanged frame whose first announcement an interrupt prevented.
        if self._frames.newest is not self.state.newest:
            self._announce()
        return True

    def _announce(self) -> None:
        for listener in self._listeners:
            listener()
        with self._lock:
            self._is_ready = False
            if not self._wake_pending:
                # In this order, an interrupt between the two lines costs a needless wake-up, never a missing one.
                self._call_hub(self._wake)
                self._wake_pending = True

    def wait_ready(self, timeout: float | None, given_up: Callable[[], bool]) -> bool:
        """Wait until a visible viewer can take a frame; False if *timeout* seconds pass or *given_up* returns true."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                now = time.monotonic()
                if given_up():
                    return False
                rests = self._rests_until > now
                if now >= deadline or (self._is_ready and not rests):
                    return self._is_ready
                # One lock per waiting thread instead of a Condition: an interrupt inside a Condition can release a lock
                # that another thread holds by then.
                woken = threading.Lock()
                woken.acquire()
                self._waiting.add(woken)
            try:
                woken.acquire(timeout=min(deadline, self._rests_until if rests else deadline, now + _LONGEST) - now)
            finally:
                self._waiting.discard(woken)

    def wake_waiters(self) -> None:
        """Make every `wait_ready` check again whether it was given up."""
        with self._lock:
            self._wake_all()

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for woken in waiting:
            woken.release()

    def note_error(self, what: str) -> None:
        """Add *what*, a description of an error, to the recent errors in `Display.status`."""
        self.recent_errors.append(f"{time.strftime('%H:%M:%S')} {what}")

    def tell(
        self, message: Message, channel: str, *, latest: bool, to: frozenset[str] | None, capability: str = CHANNELS
    ) -> None:
        """Send *message* to the viewers with *capability*, limited to the ids in *to*. Without *to*, a channel message
        goes to all of them, a clipboard message only to those whose input is accepted."""

        def tell() -> None:
            for viewer in self.viewers:
                meant = viewer.id in to if to is not None else capability == CHANNELS or self.accepts_input_of(viewer)
                if meant and viewer.session.takes(capability):
                    viewer.tell(message, channel, latest=latest)

        with uninterrupted():
            self._call_hub(tell)

    def set_cursor(self, cursor: str | None) -> None:
        """Show *cursor* to all present and future viewers."""
        with uninterrupted():
            self._call_hub(lambda: self._set_cursor(cursor))

    def add_listener(self, listener: Callable[[], object]) -> None:
        """Call *listener* for every new frame; it must not block.

        It runs on the publisher's thread: the hub's would add a hand-off and merge frames in quick succession.
        """
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def remove_listener(self, listener: Callable[[], object]) -> None:
        with self._lock:
            self._listeners = tuple(other for other in self._listeners if other != listener)

    def hold_from(self, publisher: Publisher) -> Frame | None:
        """The newest frame, which the caller must `release`; None if *publisher* has published none."""
        frame = self._frames.hold()
        # Checked after holding the frame: a frame of the next publisher is stored only once that is the publisher.
        if frame and self._publisher is not publisher:
            self._frames.release(frame)
            return None
        return frame

    @contextlib.contextmanager
    def reading(self) -> Iterator[Frame | None]:
        """The newest frame or None; its pixels stay unchanged inside the block."""
        frame = self._frames.hold()
        try:
            yield frame
        finally:
            if frame:
                self._frames.release(frame)

    def _call_hub(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            raise RuntimeError("the hub was closed") from None

    # The hub's loop ---------------------------------------------------------------------------------------------------

    def take_over(self, publisher: Publisher, size: tuple[int, int], options: StreamOptions) -> None:
        """Make *publisher* the only publisher. The viewers stay and keep their picture until its first frame.

        The previous publisher gets release events for all buttons and keys that users hold down.
        """
        for viewer in self.viewers:
            self._release(viewer)
        self._publisher = publisher
        self._record(options)
        self._frames.clear()
        self._encodings.clear()
        self._advised = 1.0
        self._first_size = size
        if self._cursor:
            self._set_cursor(None)
        self.state.restart(size, options)
        for viewer in self.viewers:
            viewer.session.restarted()
        self._sizing = Sizing(options)
        self.update_sizes()

    def reconfigure(self, options: StreamOptions) -> None:
        """Continue with new *options*."""
        before, self.state.options = self.options, options
        self.state.publish_rate.still_after = options.still_after
        if (options.record_events, options.event_log) != (before.record_events, before.event_log):
            self._record(options)
        for viewer in self.viewers:
            viewer.session.reconfigured(redraw=options.alpha != before.alpha)
            if options.clipboard != before.clipboard:
                viewer.announce()
        if options.codec != before.codec:
            self.state.encoders.clear()  # an encoder at work would continue with the old codec
        self._video.step()
        self._sizing = Sizing(options)
        self.update_sizes()
        self._changed()

    def _record(self, options: StreamOptions) -> None:
        if self._event_log:
            self._event_log.close()
        self._event_log = EventLog.of(options)

    def admit(self, viewer: ViewerConnection) -> None:
        """Add *viewer*, which receives frames from now on."""
        self.viewers.add(viewer)
        self.viewed = True
        if self._cursor:
            self._show_cursor(viewer)

    def dismiss(self, viewer: ViewerConnection) -> None:
        self.viewers.discard(viewer)
        self._release(viewer)
        if self.controller == viewer.id:
            able = self._able
            self.controller = able[0].id if able else None
        viewer.session.gone()
        self._video.step()
        self.update_sizes()
        self.update_readiness()

    def _set_cursor(self, cursor: str | None) -> None:
        self._cursor = cursor
        for viewer in self.viewers:
            self._show_cursor(viewer)

    def _show_cursor(self, viewer: ViewerConnection) -> None:
        if viewer.session.takes(CHANNELS):
            viewer.tell(cursor_message(self._cursor), _CURSOR, latest=True)

    def hand_over(self, controller: str | None) -> None:
        """Accept input from the viewer *controller* only, or from all with None; release what other viewers hold down.

        Raises `ValueError` for a viewer that isn't connected or is view-only.
        """
        able = [viewer.id for viewer in self._able]
        if controller is not None and controller not in able:
            raise ValueError(f"who controls is one of {', '.join(able) or 'nobody yet'}, or None, not {controller!r}")
        self.controller = controller
        for viewer in self.viewers:
            if not self.accepts_input_of(viewer):
                self._release(viewer)
        self.update_sizes()

    @property
    def _able(self) -> list[ViewerConnection]:
        """The viewers that may control, in the order of their arrival."""
        return sorted((viewer for viewer in self.viewers if not viewer.view_only), key=lambda viewer: viewer.number)

    async def close(self, reason: str) -> None:
        """Close every viewer with 1001 and *reason*."""
        await asyncio.gather(*(viewer.close(CloseCode.GOING_AWAY, reason) for viewer in self.viewers))
        self._video.close()
        if self._event_log:
            self._event_log.close()

    def hold(self) -> Frame | None:
        """The newest frame, announced to the sessions. The caller must pass it to `encode` or `release`."""
        if frame := self._frames.hold():
            self.state.published(frame.tiles)
        return frame

    def release(self, frame: Frame) -> None:
        self._frames.release(frame)

    def encode(self, frame: Frame, plan: EncodePlan) -> asyncio.Future[Encoded]:
        """Encode *frame* by *plan*, then release it. Viewers that request the same share one encoding.

        Raises `TimeoutError` while too many encoders of this stream hang."""
        key = plan.fidelity, plan.region.rects, plan.region.stamp
        shared = self._encodings.pop(key, None)
        if shared and shared.future.done() and (shared.future.cancelled() or shared.future.exception()):
            shared = None
        if shared:
            self._frames.release(frame)
            shared.used = frame.tiles.version
        else:
            if self._hang >= _MOST_THAT_HANG:
                self._frames.release(frame)
                raise TimeoutError(f"{self._hang} encoders of this stream hang: no more are begun")
            shared = _Shared(self._begin(frame, plan), frame.tiles.version)
        self._encodings[key] = shared  # as the newest, which is dropped last
        if len(self._encodings) > _MAX_ENCODINGS:
            del self._encodings[next(iter(self._encodings))]
        return shared.future

    def _begin(self, frame: Frame, plan: EncodePlan) -> asyncio.Future[Encoded]:
        future: asyncio.Future[Encoded] = self._loop.create_future()

        def encoded(outcome: Encoded | BaseException) -> None:  # in a thread of the pool
            self._frames.release(frame)
            with contextlib.suppress(RuntimeError):  # the hub was closed meanwhile
                self._loop.call_soon_threadsafe(settle, outcome)

        def give_up() -> None:
            self._hang += 1
            hangs = TimeoutError(f"an encoder has not returned for {ENCODE_TIMEOUT:.0f} s")
            log.error("%r: %s; its viewers are closed, other streams go on", self.name, hangs)
            self.note_error(str(hangs))
            future.set_exception(hangs)
            future.exception()

        timers = [
            self._loop.call_later(1.5 * HELD_UP, self._pool.relieve),
            self._loop.call_later(ENCODE_TIMEOUT, give_up),
        ]

        def settle(outcome: Encoded | BaseException) -> None:
            for timer in timers:
                timer.cancel()
            if future.done():  # it returned after it was given up
                self._hang -= 1
                return
            if isinstance(outcome, BaseException):
                if not isinstance(outcome, Exception):  # it would end the loop with the waiting task
                    outcome = RuntimeError(f"an encoder raised {outcome!r}")
                future.set_exception(outcome)
                future.exception()  # nobody awaits an encoding made ahead
                return
            self.state.learn(plan, outcome)
            future.set_result(outcome)

        try:
            EncodeJob(frame, plan.region.rects, plan.fidelity, encoded).start(self._pool, self._threads)
        except RuntimeError:
            for timer in timers:
                timer.cancel()
            raise TransportClosed("the process is ending") from None
        return future

    def _forget_encodings(self, version: int) -> None:
        """Drop the encodings that no viewer has requested since the last few frames."""
        oldest = version - _KEPT_FRAMES
        self._encodings = {key: shared for key, shared in self._encodings.items() if shared.used >= oldest}

    def update_sizes(self) -> None:
        """Recompute the requested size: a viewer was resized, became visible or hidden, or left."""
        accepted = {viewer.id: viewer.session for viewer in self.viewers if self.accepts_input_of(viewer)}
        self._sizing.update(accepted, self._loop.time())
        self._settle_size()

    def _settle_size(self) -> None:
        """Adopt the size that viewers request, or schedule the next check."""
        if self._settling:
            self._settling.cancel()
        sizing = self._sizing
        if sizing.settle(self._loop.time()):
            assert sizing.asker
            name, box = sizing.asker
            # For applications that render only on events: the viewer's own event came before the target changed.
            event = {"type": "resize", **asdict(box), "timestamp": time.time()}
            principal = next((viewer.principal for viewer in self.viewers if viewer.id == name), None)
            self._put(name, principal, event)
        elif math.isfinite(sizing.due):
            self._settling = self._loop.call_at(sizing.due, self._settle_size)

    def accepts_input_of(self, viewer: ViewerConnection) -> bool:
        """True if input from *viewer* reaches the application."""
        return not viewer.view_only and self.controller in (None, viewer.id)

    def deliver(self, viewer: ViewerConnection, told: EventDict | Said) -> None:
        """Pass an input event or a channel message from *viewer* to the publisher."""
        if not self.accepts_input_of(viewer):
            viewer.refused_events += 1
        elif not isinstance(told, Said):
            viewer.held.note(told)
            self._put(viewer.id, viewer.principal, told)
        elif self._publisher:
            message = ChannelMessage(viewer.id, viewer.principal, told.channel, told.data, now_us())
            self._publisher.put_message(message, told.nbytes)

    def _release(self, viewer: ViewerConnection) -> None:
        """Send release events for what *viewer*'s user holds down: its own no longer reach the application."""
        for event in viewer.held.release(time.time()):
            self._put(viewer.id, viewer.principal, event)

    def _put(self, client_id: str, principal: object, event: EventDict) -> None:
        received = InputEvent(client_id, principal, cast(Event, event), now_us())
        if self._event_log:
            self._event_log.record(received)
        if self._publisher:
            self._publisher.put_event(received)

    def _update_readiness(self) -> None:
        ready = any(viewer.session.ready for viewer in self.viewers)
        with self._lock:
            # While a wake-up is pending, the sessions don't know yet that there is a new frame to send.
            self._is_ready = ready and not self._wake_pending
            if self._is_ready:
                self._wake_all()

    def _wake(self) -> None:
        with self._lock:
            self._wake_pending = False
        newest = self._frames.newest
        if newest:
            self.state.published(newest)
            self._forget_encodings(newest.version)
        self._changed()
        self.update_readiness()
        if self.options.adaptive:
            self._advise()

    def _changed(self) -> None:
        for viewer in self.viewers:
            viewer.wake()

    def _advise(self) -> None:
        """Tell the publisher the frame size that the slowest viewer can keep up with, if it has changed."""
        scale = min((viewer.session.scale for viewer in self.viewers), default=1.0)
        if scale != self._advised and self._publisher:
            self._advised = scale
            width, height = (max(1, round(side * scale)) for side in self.state.size)
            self._publisher.put_event(DownscaleHint(scale, width, height, now_us()))
