"""One stream: the newest frame, its encodings, and the viewers that they are sent to.

Threads: publishers touch the frame store and the readiness flag, both behind locks; everything else belongs to the
hub's loop. A frame crosses to the loop by one wake-up, and to the encoder's thread and back; more hand-offs would cost
frames while a cell computes in pure Python.
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
    """Who publishes into a stream, and takes its viewers' input."""

    def put_event(self, event: StreamEvent) -> None: ...

    def put_message(self, message: ChannelMessage, nbytes: int) -> None: ...


_CURSOR = "rfb/cursor"
"""A channel of our own: no application's has a slash."""
_MAX_ENCODINGS = 32
"""Encodings that are kept for viewers to share."""
_KEPT_TROUBLES = 20
_MOST_THAT_HANG = 2
"""Encodings that may never return, each of which has a thread of the hub's, before a stream may begin no more."""
_LONGEST = threading.TIMEOUT_MAX / 2
"""Seconds that a lock can be waited for at once."""
_KEPT_FRAMES = 2
"""An encoding that was not asked for while so many frames came is dropped."""


@dataclass(slots=True)
class _Shared:
    """An encoding, on its way or done, and the newest version when it was last asked for."""

    future: asyncio.Future[Encoded]
    used: int


class _Soon:
    """Calls *function* in the loop's next round, once however many viewers ask: it looks at every viewer, so that a
    call for each of them would cost the square of their number."""

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
    """A named stream of the hub. It outlives the displays that publish into it, one after the other."""

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
        """A viewer has come."""
        self.recent_errors: deque[str] = deque(maxlen=_KEPT_TROUBLES)
        """What went wrong last, each with its time of day; the log has all of it."""
        self.controller: str | None = None
        """The viewer whose input counts, None for all."""
        self._cursor: str | None = None
        self._first_size = size
        self._loop = loop
        self._pool = pool
        self._threads = threads
        self._frames = FrameStore()
        self._video = VideoScheduler(self.state, self.hold, self.release, self._changed, self.note_error)
        self.step_video = _Soon(loop, self._video.step)
        """Some viewer may have room now, or another encoder."""
        self.update_readiness = _Soon(loop, self._update_readiness)
        """Recompute what `wait_ready` waits for."""
        self._sizing = Sizing(options)
        self._settling: asyncio.TimerHandle | None = None
        self._hang = 0
        self._encodings: dict[tuple[Fidelity, tuple[Rect, ...], int], _Shared] = {}
        self._publisher: Publisher | None = None
        self._event_log: EventLog | None = None
        self._listeners: tuple[Callable[[], object], ...] = ()
        # A plain lock, entered and left in C: an interrupt of the publisher's cell can't leave it locked.
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
        """Width and height of the newest frame, or what was asked for before the first."""
        newest = self._frames.newest
        return newest.size if newest else self._first_size

    @property
    def newest(self) -> TileMap | None:
        """Of the newest frame, None while there is none."""
        return self._frames.newest

    @property
    def target(self) -> Target | None:
        """What the viewers ask frames to be."""
        return self._sizing.target

    @property
    def options(self) -> StreamOptions:
        return self.state.options

    @property
    def recorded_events(self) -> list[Event]:
        """With ``record_events``: the input that came, oldest first."""
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
        """Make *pixels* what every viewer is owed; False once another publisher has taken the stream over.

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
            # No viewer will slow down who publishes whenever one is ready.
            self._rests_until = time.monotonic() + 0.5 / self.options.fps
        # Also where an interrupt kept the hub from hearing of the same picture when it was new.
        if self._frames.newest is not self.state.newest:
            self._announce()
        return True

    def _announce(self) -> None:
        for listener in self._listeners:
            listener()
        with self._lock:
            self._is_ready = False
            if not self._wake_pending:
                # In this order: an interrupt between the two costs a needless wake-up, never a missing one.
                self._call_hub(self._wake)
                self._wake_pending = True

    def wait_ready(self, timeout: float | None, given_up: Callable[[], bool]) -> bool:
        """Wait until a visible viewer can take a frame; False when *timeout* seconds pass or *given_up* first."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                now = time.monotonic()
                if given_up():
                    return False
                rests = self._rests_until > now
                if now >= deadline or (self._is_ready and not rests):
                    return self._is_ready
                # One of its own for each who waits, and no Condition: an interrupt inside of that unlocks what another
                # thread has locked by then.
                woken = threading.Lock()
                woken.acquire()
                self._waiting.add(woken)
            try:
                woken.acquire(timeout=min(deadline, self._rests_until if rests else deadline, now + _LONGEST) - now)
            finally:
                self._waiting.discard(woken)

    def wake_waiters(self) -> None:
        """Let every `wait_ready` ask again whether it was given up."""
        with self._lock:
            self._wake_all()

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for woken in waiting:
            woken.release()

    def note_error(self, what: str) -> None:
        """Keep *what* went wrong, in words, for `Display.status`."""
        self.recent_errors.append(f"{time.strftime('%H:%M:%S')} {what}")

    def tell(
        self, message: Message, channel: str, *, latest: bool, to: frozenset[str] | None, capability: str = CHANNELS
    ) -> None:
        """Send *message* to the viewers of *capability*, or to those of them whose id is in *to*: without, all that
        may see it, or a clipboard's whose input counts."""

        def tell() -> None:
            for viewer in self.viewers:
                meant = viewer.id in to if to is not None else capability == CHANNELS or self.accepts_input_of(viewer)
                if meant and viewer.session.takes(capability):
                    viewer.tell(message, channel, latest=latest)

        with uninterrupted():
            self._call_hub(tell)

    def set_cursor(self, cursor: str | None) -> None:
        """Show *cursor* to the viewers that there are, and to those that come."""
        with uninterrupted():
            self._call_hub(lambda: self._set_cursor(cursor))

    def add_listener(self, listener: Callable[[], object]) -> None:
        """Call *listener* when there is a newer frame; it must not wait.

        On the publisher's thread: over the hub's it would be one more hand-off, and frames that come at once be one.
        """
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def remove_listener(self, listener: Callable[[], object]) -> None:
        with self._lock:
            self._listeners = tuple(other for other in self._listeners if other != listener)

    def hold_from(self, publisher: Publisher) -> Frame | None:
        """The newest frame, to be given to `release`; None when there is none that *publisher* published."""
        frame = self._frames.hold()
        # Asked afterwards: a frame of the next publisher is put when it is the stream's publisher already.
        if frame and self._publisher is not publisher:
            self._frames.release(frame)
            return None
        return frame

    @contextlib.contextmanager
    def reading(self) -> Iterator[Frame | None]:
        """The newest frame, which stays as it is meanwhile."""
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
        """Only *publisher* publishes from now on; the viewers stay, and keep their picture until its first frame.

        What their users hold down comes up for the publisher before, which was told that it went down.
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
        """Go on with other *options*."""
        before, self.state.options = self.options, options
        self.state.publish_rate.still_after = options.still_after
        if (options.record_events, options.event_log) != (before.record_events, before.event_log):
            self._record(options)
        for viewer in self.viewers:
            viewer.session.reconfigured(redraw=options.alpha != before.alpha)
            if options.clipboard != before.clipboard:
                viewer.announce()
        if options.codec != before.codec:
            self.state.encoders.clear()  # one whose encoder is at work would go on with it
        self._video.step()
        self._sizing = Sizing(options)
        self.update_sizes()
        self._changed()

    def _record(self, options: StreamOptions) -> None:
        if self._event_log:
            self._event_log.close()
        self._event_log = EventLog.of(options)

    def admit(self, viewer: ViewerConnection) -> None:
        """Feed *viewer* from now on."""
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
        """Only the viewer *controller* is heeded from now on, None for all; the others let go of what they hold.

        Raises `ValueError` for who isn't connected or may only look.
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
        """The viewers that may control, in the order that they came."""
        return sorted((viewer for viewer in self.viewers if not viewer.view_only), key=lambda viewer: viewer.number)

    async def close(self, reason: str) -> None:
        """Close every viewer with 1001 and *reason*."""
        await asyncio.gather(*(viewer.close(CloseCode.GOING_AWAY, reason) for viewer in self.viewers))
        self._video.close()
        if self._event_log:
            self._event_log.close()

    def hold(self) -> Frame | None:
        """The newest frame, which the sessions know from now on. It must be given to `encode` or `release`."""
        if frame := self._frames.hold():
            self.state.published(frame.tiles)
        return frame

    def release(self, frame: Frame) -> None:
        self._frames.release(frame)

    def encode(self, frame: Frame, plan: EncodePlan) -> asyncio.Future[Encoded]:
        """What is planned of *frame*, which is released. Encoded once for all viewers that ask for the same."""
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
        self._encodings[key] = shared  # as the last, which goes last
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
            if future.done():  # it did return, and was given up meanwhile
                self._hang -= 1
                return
            if isinstance(outcome, BaseException):
                if not isinstance(outcome, Exception):  # the loop would end with who waits
                    outcome = RuntimeError(f"an encoder raised {outcome!r}")
                future.set_exception(outcome)
                future.exception()  # who waits is told; if it was encoded ahead, nobody does
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
        """Drop what nobody will ask for again."""
        oldest = version - _KEPT_FRAMES
        self._encodings = {key: shared for key, shared in self._encodings.items() if shared.used >= oldest}

    def update_sizes(self) -> None:
        """A viewer was resized, is seen or not seen any more, or went."""
        accepted = {viewer.id: viewer.session for viewer in self.viewers if self.accepts_input_of(viewer)}
        self._sizing.update(accepted, self._loop.time())
        self._settle_size()

    def _settle_size(self) -> None:
        """Take over the size that viewers ask for, or look again when that is due."""
        if self._settling:
            self._settling.cancel()
        sizing = self._sizing
        if sizing.settle(self._loop.time()):
            assert sizing.asker
            name, box = sizing.asker
            # For who renders only when something happens: the viewer's own event came before the target.
            event = {"type": "resize", **asdict(box), "timestamp": time.time()}
            principal = next((viewer.principal for viewer in self.viewers if viewer.id == name), None)
            self._put(name, principal, event)
        elif math.isfinite(sizing.due):
            self._settling = self._loop.call_at(sizing.due, self._settle_size)

    def accepts_input_of(self, viewer: ViewerConnection) -> bool:
        """What *viewer* says reaches the application."""
        return not viewer.view_only and self.controller in (None, viewer.id)

    def deliver(self, viewer: ViewerConnection, told: EventDict | Said) -> None:
        """Pass on what *viewer* has said."""
        if not self.accepts_input_of(viewer):
            viewer.refused_events += 1
        elif not isinstance(told, Said):
            viewer.held.note(told)
            self._put(viewer.id, viewer.principal, told)
        elif self._publisher:
            message = ChannelMessage(viewer.id, viewer.principal, told.channel, told.data, now_us())
            self._publisher.put_message(message, told.nbytes)

    def _release(self, viewer: ViewerConnection) -> None:
        """Let go of what *viewer*'s user holds down, whose own words no longer reach the application."""
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
            # While a wake-up is pending, the sessions don't know yet that they are owed a frame.
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
        """Tell the publisher what the slowest viewer could keep up with, where that is another size than before."""
        scale = min((viewer.session.scale for viewer in self.viewers), default=1.0)
        if scale != self._advised and self._publisher:
            self._advised = scale
            width, height = (max(1, round(side * scale)) for side in self.state.size)
            self._publisher.put_event(DownscaleHint(scale, width, height, now_us()))
