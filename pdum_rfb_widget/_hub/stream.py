"""One stream: carries out what its core decides, and passes the core what happens.

Threads: publishers use the frame store and the readiness, both guarded by locks; everything else belongs to the hub's
loop. A frame is announced to the loop by one wake-up, then goes to an encoder thread and back. More hand-offs between
threads would cost frames while a cell computes in pure Python.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol, cast

from .._core.encode_jobs import EncodeImages, EncodeVideo, Job
from .._core.outputs import Advise, Close, Deliver, Output, Report, Send
from .._core.sizing import Target
from .._core.stream import StreamCore
from .._core.viewer import Viewer
from .._encode.executor import Executor
from .._encode.pool import Pool
from .._frames.chunk import Chunk
from .._frames.damage import Mask, TileMap
from .._frames.listeners import Listeners
from .._frames.pixels import is_immutable
from .._frames.store import Frame, FrameStore
from .._system.interrupts import uninterrupted
from ..events import Event
from ..protocol import CHANNELS, CloseCode, ProtocolError, Said
from ..types import (
    ChannelMessage,
    ColorSpace,
    DownscaleHint,
    Encoded,
    InputEvent,
    Message,
    Pixels,
    StreamEvent,
    StreamOptions,
)
from .alarm import Alarm
from .event_log import EventLog
from .readiness import Readiness
from .viewer import ViewerConnection

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """The publisher of a stream, which also receives the input of its viewers."""

    def put_event(self, event: StreamEvent) -> None: ...

    def put_message(self, message: ChannelMessage, nbytes: int) -> None: ...


_KEPT_ERRORS = 20


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
        self.core = StreamCore(options, size)
        """The stream's decisions. Every input to it is followed by a poll."""
        self.recent_errors: deque[str] = deque(maxlen=_KEPT_ERRORS)
        """The most recent errors, each with its time of day; the log has all of them."""
        self._loop = loop
        self._frames = FrameStore()
        self.readiness = Readiness()
        self._executor = Executor(loop, pool, threads, self._frames.release, self._encoded)
        self._connections: dict[Viewer, ViewerConnection] = {}
        self._poll_pending = False
        self._unchanged = 0
        self._alarm = Alarm(loop, self._poll)
        self._publisher: Publisher | None = None
        self._event_log: EventLog | None = None
        self.listeners = Listeners()

    # Any thread -------------------------------------------------------------------------------------------------------

    @property
    def frames_published(self) -> int:
        return self._frames.count

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the newest frame in pixels; before the first frame, the requested size."""
        newest = self._frames.format
        return newest.size if newest else self.core.state.size

    @property
    def format(self) -> TileMap | None:
        """`FrameStore.format`."""
        return self._frames.format

    @property
    def newest(self) -> TileMap | None:
        """Tile map of the newest frame, which is compared for it; None before the first."""
        with self.reading() as frame:
            return frame.tiles if frame else None

    @property
    def target(self) -> Target | None:
        """The frame size that the viewers request."""
        return self.core.control.sizing.target

    @property
    def options(self) -> StreamOptions:
        return self.core.state.options

    @property
    def viewers(self) -> set[Viewer]:
        """The viewers that were admitted."""
        return self.core.viewers

    @property
    def controller(self) -> str | None:
        """Id of the only viewer whose input is accepted; None accepts every viewer's."""
        return self.core.control.controller

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
        taken = self._frames.put(
            pixels,
            now_us(),
            copy=self.options.own_frames and not is_immutable(pixels),
            damage=damage,
            still_wanted=lambda: self._publisher is publisher,
            pixel_ratio=pixel_ratio,
            color=color,
            rendered_us=rendered_us,
        )
        if taken:
            if self.readiness.publisher_takes:
                with self.reading():
                    pass
            self.listeners.call()
            self.readiness.announce(lambda: self._call_hub(self._wake))
        return taken

    def note_error(self, what: str) -> None:
        """Add *what*, a description of an error, to the recent errors in `Display.status`."""
        self.recent_errors.append(f"{time.strftime('%H:%M:%S')} {what}")

    def tell(
        self, message: Message, channel: str, *, latest: bool, to: frozenset[str] | None, capability: str = CHANNELS
    ) -> None:
        """`StreamCore.tell`."""
        self._input(lambda: self.core.tell(message, channel, latest=latest, to=to, capability=capability))

    def set_cursor(self, cursor: str | None) -> None:
        """Show *cursor* to all present and future viewers."""
        self._input(lambda: self.core.set_cursor(cursor))

    def hold_from(self, publisher: Publisher) -> Frame | None:
        """The newest frame, which the caller must `release`; None if *publisher* has published none."""
        frame = self._frames.hold()
        # Checked after holding the frame: a frame of the next publisher is stored only once that is the publisher.
        if frame and self._publisher is not publisher:
            self._frames.release(frame)
            return None
        return frame

    def release(self, frame: Frame) -> None:
        self._frames.release(frame)

    @contextlib.contextmanager
    def reading(self, *, take: bool = True) -> Iterator[Frame | None]:
        """`FrameStore.hold`; the frame's pixels stay unchanged inside the block."""
        frame = self._frames.hold(take=take)
        try:
            yield frame
        finally:
            if frame:
                self._frames.release(frame)

    def _input(self, change: Callable[[], None]) -> None:
        """Change the core in the hub's loop, and poll it."""

        def apply() -> None:
            change()
            self._poll_soon()

        with uninterrupted():
            self._call_hub(apply)

    def _call_hub(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            raise RuntimeError("the hub was closed") from None

    # The hub's loop: what the application does ------------------------------------------------------------------------

    def take_over(self, publisher: Publisher, size: tuple[int, int], options: StreamOptions) -> None:
        """Make *publisher* the only publisher. The viewers stay and keep their picture until its first frame.

        The previous publisher gets release events for all buttons and keys that users hold down.
        """
        self.core.control.release_all()
        self._poll()
        self._publisher = publisher
        self._record(options)
        self._frames.clear()
        self.core.restart(size, options, self._loop.time())
        self._poll()

    def reconfigure(self, options: StreamOptions) -> None:
        """Continue with new *options*."""
        before = self.options
        if (options.record_events, options.event_log) != (before.record_events, before.event_log):
            self._record(options)
        self.core.configure(options, self._loop.time())
        self._poll()

    def hand_over(self, controller: str | None) -> None:
        """`InputControl.hand_over`."""
        self.core.control.hand_over(controller, self._loop.time())
        self._poll()

    async def close(self, reason: str) -> None:
        """Close every viewer with 1001 and *reason*."""
        # Those that have not said hello are told then that there is no such stream.
        connections = [self._connections[viewer] for viewer in self.viewers]
        for connection in connections:
            self.core.close(connection.viewer, CloseCode.GOING_AWAY, reason)
        self._poll()
        await asyncio.gather(*(connection.ended.wait() for connection in connections))
        self._executor.close()
        if self._event_log:
            self._event_log.close()

    async def close_viewer(self, viewer: Viewer, code: CloseCode, reason: str) -> None:
        """Close *viewer* with *code* and *reason*."""
        if connection := self._connections.get(viewer):
            self.core.close(viewer, code, reason)
            self._poll_soon()
            await connection.ended.wait()

    def _record(self, options: StreamOptions) -> None:
        if self._event_log:
            self._event_log.close()
        self._event_log = EventLog.of(options)

    # The hub's loop: what viewers and encoders do ---------------------------------------------------------------------

    def connected(self, connection: ViewerConnection) -> None:
        self._connections[connection.viewer] = connection
        self.core.connected(connection.viewer)
        self._poll_soon()

    def received(self, viewer: Viewer, message: str | bytes) -> None:
        self.core.received(viewer, message, self._loop.time())
        self._go_on()

    def written(self, viewer: Viewer) -> None:
        self.core.written(viewer)
        self._poll_soon()

    def failed(self, viewer: Viewer, error: Exception) -> None:
        self.core.fail(viewer, error)
        self._poll_soon()

    def left(self, viewer: Viewer) -> None:
        del self._connections[viewer]
        self.core.left(viewer, self._loop.time())
        self._poll_soon()

    def _encoded(self, job: Job, outcome: Encoded | Chunk | Exception) -> None:
        self.core.encoded(job, outcome, self._loop.time())
        self._poll()

    def _wake(self) -> None:
        self.readiness.awake()
        self._poll()

    # The hub's loop: what the core wants ------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Poll soon, unless nothing is to be done: as after most acknowledgements."""
        core, frames = self.core, self._frames
        wanted = bool(core.agenda.with_room) or not core.state.pending
        # Not `pending` of the store: a recording, or whoever else takes frames, may have taken one since the last poll.
        comes = self.readiness.update(bool(core.agenda.ready), wanted, lambda: frames.format is not core.state.newest)
        if comes or core.due:
            self._poll_soon()

    def _poll_soon(self) -> None:
        """Poll in the loop's next iteration, once for all inputs until then."""
        if not self._poll_pending:
            self._poll_pending = True
            self._loop.call_soon(self._poll)

    def _poll(self) -> None:
        self._poll_pending = False
        now = self._loop.time()
        takes = self.core.agenda.takes_frames(now)
        with self.reading(take=takes) as frame:
            self._rest_if_unchanged()
            # One that came during the comparison has to wait for the next poll: else each might wait for the next.
            pending = None if takes else self._frames.pending
            self.core.published(frame.tiles if frame else None, pending=pending)
            for output in self.core.poll(now):
                try:
                    self._carry_out(output, frame)
                except Exception as error:  # as where a callback's thread can't begin: the other outputs count
                    log.exception("%r: %s failed", self.name, type(output).__name__)
                    self.note_error(f"{type(error).__name__}: {error}")
        self._executor.keep(self.core.state.encoders)
        self._go_on()
        self._alarm.set(self.core.wake_at)

    def _rest_if_unchanged(self) -> None:
        """An unchanged frame keeps viewers ready, so nothing else slows a loop of wait_ready() and publish()."""
        if self._unchanged != self._frames.unchanged:
            self._unchanged = self._frames.unchanged
            self.readiness.rest(0.5 / self.options.fps)

    def _carry_out(self, output: Output, frame: Frame | None) -> None:
        match output:
            case Send(viewer, message):
                if self._connections[viewer].send(message):
                    self.core.written(viewer, at_once=True)
            case EncodeImages():
                assert frame
                self._executor.encode(output, self._frames.share(frame))
            case EncodeVideo():
                assert frame
                self._executor.encode_video(output, self._frames.share(frame), self.options.codec)
            case Deliver():
                self._deliver(output)
            case Close(viewer, code, reason, cause):
                self._close(viewer, code, reason, cause)
            case Advise(scale):
                if self._publisher:
                    width, height = (max(1, round(side * scale)) for side in self.core.state.size)
                    self._publisher.put_event(DownscaleHint(scale, width, height, now_us()))
            case Report(what, cause):
                log.error("%r: %s", self.name, what, exc_info=cause)
                self.note_error(what)

    def _deliver(self, output: Deliver) -> None:
        said = output.said
        if isinstance(said, Said):
            if self._publisher:
                message = ChannelMessage(output.client_id, output.principal, said.channel, said.data, now_us())
                self._publisher.put_message(message, said.nbytes)
            return
        event = cast(Event, said | {"timestamp": time.time()} if output.made else said)
        received = InputEvent(output.client_id, output.principal, event, now_us())
        if self._event_log:
            self._event_log.record(received)
        if self._publisher:
            self._publisher.put_event(received)

    def _close(self, viewer: Viewer, code: CloseCode, reason: str, cause: Exception | None) -> None:
        if isinstance(cause, ProtocolError):
            log.info("%s closed: %s", viewer.id, cause)
            self.note_error(f"{viewer.id} was closed: {cause}")
        elif cause:
            log.error("%s closed: the hub failed it", viewer.id, exc_info=cause)
            self.note_error(f"{viewer.id} was closed: {type(cause).__name__}: {cause}")
        if connection := self._connections.get(viewer):
            connection.close(code, reason)
