"""One stream: the newest frame, its encodings, and the viewers that they are sent to.

Threads: publishers touch the frame store and the readiness flag, both behind locks; everything else belongs to the
hub's loop. A frame crosses to the loop by one wake-up, and to the encoder's thread and back; more hand-offs would cost
frames while a cell computes in pure Python.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from itertools import count
from typing import Protocol

from .encoders.image import encode_image
from .frames import Frame, FrameStore
from .protocol import CloseCode, ProtocolError
from .session import ACK_TIMEOUT, Message, Session
from .transport import Transport, TransportClosed
from .types import EncodedPayload, InputEvent, Pixels, Selection, StreamOptions

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """Who publishes into a stream, and takes its viewers' input."""

    def put_event(self, event: InputEvent) -> None: ...


_client_ids = count(1)


def now_us() -> int:
    return time.monotonic_ns() // 1000


class Broadcast:
    """A named stream of the hub. It outlives the displays that publish into it, one after the other."""

    def __init__(
        self, name: str, size: tuple[int, int], options: StreamOptions, loop: asyncio.AbstractEventLoop, pool: Executor
    ) -> None:
        self.name = name
        self.size = size
        """Width and height of the newest frame, or what was asked for before the first."""
        self.options = options
        self.viewers: set[Viewer] = set()
        self._loop = loop
        self._pool = pool
        self._frames = FrameStore()
        self._encodings: dict[Selection, tuple[int, asyncio.Future[EncodedPayload]]] = {}
        self._publisher: Publisher | None = None
        # A plain lock, entered and left in C: an interrupt of the publisher's cell can't leave it locked.
        self._lock = threading.Lock()
        self._readiness = threading.Condition(self._lock)
        self._wake_pending = False
        self._is_ready = False

    # Any thread -------------------------------------------------------------------------------------------------------

    @property
    def frames_published(self) -> int:
        return self._frames.count

    def publish(self, publisher: Publisher, pixels: Pixels) -> bool:
        """Make *pixels* what every viewer is owed; False once another publisher has taken the stream over.

        Never waits for a viewer. Raises `RuntimeError` when the hub was closed.
        """
        own_frames = self.options.own_frames
        if not self._frames.put(pixels, now_us(), copy=own_frames, still_wanted=lambda: self._publisher is publisher):
            return False
        self.size = pixels.shape[1], pixels.shape[0]
        with self._lock:
            self._is_ready = False
            if not self._wake_pending:
                # In this order: an interrupt between the two costs a needless wake-up, never a missing one.
                self._call_hub(self._wake)
                self._wake_pending = True
        return True

    def wait_ready(self, timeout: float | None, given_up: Callable[[], bool]) -> bool:
        """Wait until a visible viewer can take a frame; False when *timeout* seconds pass or *given_up* first."""
        with self._lock:
            self._readiness.wait_for(lambda: self._is_ready or given_up(), timeout)
            return self._is_ready and not given_up()

    def wake_waiters(self) -> None:
        """Let every `wait_ready` ask again whether it was given up."""
        with self._lock:
            self._readiness.notify_all()

    def _call_hub(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            raise RuntimeError("the hub was closed") from None

    # The hub's loop ---------------------------------------------------------------------------------------------------

    def take_over(self, publisher: Publisher, size: tuple[int, int], options: StreamOptions) -> None:
        """Only *publisher* publishes from now on; the viewers stay, and keep their picture until its first frame."""
        self._publisher = publisher
        self._frames.clear()
        self._encodings.clear()
        self.size, self.options = size, options
        for viewer in self.viewers:
            viewer.session.restart(options)

    def admit(self, viewer: Viewer) -> None:
        """Feed *viewer* from now on."""
        self.viewers.add(viewer)
        viewer.session.published(self._frames.version)

    def dismiss(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)
        self.update_readiness()

    async def close(self, reason: str) -> None:
        """Close every viewer with 1001 and *reason*."""
        await asyncio.gather(*(viewer.close(CloseCode.GOING_AWAY, reason) for viewer in self.viewers))

    async def encoded(self, selection: Selection) -> EncodedPayload:
        """The newest frame in *selection*, encoded once for all viewers that ask."""
        version, future = self._encodings.get(selection, (0, None))
        failed = future is not None and future.done() and (future.cancelled() or future.exception() is not None)
        if future is None or failed or version != self._frames.version:
            frame = self._frames.hold()
            assert frame is not None, "an encoding is asked for once a frame exists"
            try:
                future = self._loop.run_in_executor(self._pool, self._encode, frame, selection)
            except RuntimeError:
                raise TransportClosed("the process is ending") from None
            self._encodings[selection] = (frame.version, future)
        # A viewer that goes must not cancel what the others wait for.
        return await asyncio.shield(future)

    def deliver(self, event: InputEvent) -> None:
        if self._publisher:
            self._publisher.put_event(event)

    def update_readiness(self) -> None:
        """Recompute what `wait_ready` waits for."""
        ready = any(viewer.session.ready for viewer in self.viewers)
        with self._lock:
            # While a wake-up is pending, the sessions don't know yet that they are owed a frame.
            self._is_ready = ready and not self._wake_pending
            if self._is_ready:
                self._readiness.notify_all()

    def _wake(self) -> None:
        with self._lock:
            self._wake_pending = False
        version = self._frames.version
        for viewer in self.viewers:
            viewer.published(version)
        self.update_readiness()

    def _encode(self, frame: Frame, selection: Selection) -> EncodedPayload:
        try:
            started = time.perf_counter()
            data, mime = encode_image(frame.pixels, selection)
            encode_ms = (time.perf_counter() - started) * 1000
            height, width = frame.pixels.shape[:2]
            return EncodedPayload(data, mime, width, height, frame.version, frame.timestamp_us, encode_ms)
        finally:
            self._frames.release(frame)


class Viewer:
    """Joins one session to its transport: one task reads, one writes. Owned by the hub's loop."""

    def __init__(self, session: Session, transport: Transport, stream: Broadcast | None) -> None:
        self.session = session
        self.id = f"viewer-{next(_client_ids)}"
        self._transport = transport
        self._stream = stream
        self._something_new = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._clock = asyncio.get_running_loop().time

    def published(self, version: int) -> None:
        self.session.published(version)
        self._something_new.set()

    async def close(self, code: CloseCode, reason: str) -> None:
        # A payload that is half sent would make the close one of a broken message.
        if self._writing:
            self._writing.cancel()
            await asyncio.wait({self._writing})
        await self._transport.close(code, reason)

    async def run(self) -> None:
        """Until the peer goes or earns its close."""
        self._writing = asyncio.ensure_future(self._write())
        tasks = {self._writing, asyncio.ensure_future(self._read()), asyncio.ensure_future(self._watch())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            if self._stream:
                self._stream.dismiss(self)
        for result in results:
            await self._end_for(result)

    async def _end_for(self, result: BaseException | None) -> None:
        match result:
            case None | asyncio.CancelledError() | TransportClosed():
                return
            case ProtocolError():
                log.warning("%s closed: %s", self.id, result)
                await self.close(result.code, result.reason)
            case _:
                log.error("%s closed: the hub failed it", self.id, exc_info=result)
                await self.close(CloseCode.INTERNAL_ERROR, "the hub failed; its log says why")

    async def _read(self) -> None:
        while True:
            message = await self._transport.receive()
            was_open = self.session.selection is not None
            event = self.session.receive(message, self._clock())
            if self._stream and not was_open:
                self._stream.admit(self)
            if self._stream and event:
                self._stream.deliver(InputEvent(self.id, event, now_us()))
            self._something_new.set()

    async def _write(self) -> None:
        # The only task that sends, so that a config stands before the frames that it is for.
        await self._something_new.wait()
        assert self._stream, "a hello is accepted for a stream only"
        await self._send(self.session.greet(*self._stream.size))
        while True:
            self._something_new.clear()
            now = self._clock()
            await self._send(self.session.stats(now))
            if self.session.selection and self.session.wants_frame(now):
                payload = await self._stream.encoded(self.session.selection)
                await self._send(self.session.send(payload, self._clock()))
            else:
                self._stream.update_readiness()
                await self._wait_until(self.session.next_look)

    async def _watch(self) -> None:
        # Apart from the writer, which is stuck when the peer doesn't read.
        while True:
            now = self._clock()
            self.session.check(now)
            await asyncio.sleep(min(self.session.closes_at - now, ACK_TIMEOUT))

    async def _send(self, messages: list[Message]) -> None:
        for message in messages:
            await self._transport.send(message)

    async def _wait_until(self, look: float) -> None:
        try:
            async with asyncio.timeout_at(None if math.isinf(look) else look):
                await self._something_new.wait()
        except TimeoutError:
            pass
