"""One application's use of a stream: its queued input, its recordings and its sources.

Threads: the hub's loop queues events and messages, any thread takes them; a lock guards shared state.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from .._frames.damage import as_damage
from .._frames.pixels import as_pixels
from .._hosts.audience import LIVE, PATIENCE, UNATTENDED, unattended
from .._hosts.notebook_context import current_cell
from .._system.fork_guard import Guarded, Own
from .._system.interrupts import uninterrupted
from ..events import EVENT_FIELDS, nearest_kind
from ..options import StreamOptionsDict
from ..protocol import CLIPBOARD, check_channel, clipboard_message
from ..snapshot import Snapshot, take
from ..types import (
    CURSORS,
    MAX_RATIO,
    MIN_RATIO,
    SRGB,
    ChannelMessage,
    ColorSpace,
    InputEvent,
    Message,
    RawFrame,
    StreamEvent,
    check_number,
)
from .callbacks import Callbacks, Function
from .stream import Stream

log = logging.getLogger(__name__)

_F = TypeVar("_F", bound=Function)

_CHANNEL = "message on "
"""Prefix that distinguishes callbacks for channels from those for events."""


class Film(Protocol):
    """A recording, which ends with the publication that it records."""

    done: Future[None]

    def end(self) -> None: ...


class Publication:
    """An application that publishes into *stream*. `display.Display` is its public surface."""

    # Reading these in a fork raises an error: they hold locks, or belong to the stream.
    callbacks: Guarded[Callbacks] = Guarded()
    stream: Guarded[Stream] = Guarded()
    _lock: Guarded[threading.Lock] = Guarded()

    def __init__(
        self,
        process: Own,
        stream: Stream,
        event_queue_size: int,
        loop: asyncio.AbstractEventLoop | None,
        session: str | None,
    ) -> None:
        self.process = process
        """The process that created it; no other can use it."""
        self.session = session
        """The session of a marimo app; the stream closes with it."""
        self.handle: Any = None
        """The application's `display.Display`."""
        self.closed = False
        self._unattended = self._said_unseen = False
        self.callbacks = Callbacks(loop, event_queue_size, stream.note_error)
        """The functions registered with `Display.on` and `Display.on_message`."""
        self.stream = stream
        self._lock = threading.Lock()  # guards what follows
        self._events: deque[StreamEvent] = deque(maxlen=event_queue_size)
        self._sleepers: list[Future[None]] = []
        self._films: set[Film] = set()
        self._feeds: list[Future[None]] = []

    def check_open(self) -> None:
        """Raise `RuntimeError` if it is closed."""
        if self.closed:
            raise RuntimeError(f"the display {self.stream.name!r} was closed, or its cell has run again")

    # Pixels -----------------------------------------------------------------------------------------------------------

    def publish(
        self,
        frame: object,
        damage: Iterable[Sequence[int]] | None = None,
        pixel_ratio: float | None = None,
        color: ColorSpace | None = None,
    ) -> None:
        """`Display.publish`."""
        rendered_us = None
        if isinstance(frame, RawFrame):
            pixel_ratio = frame.pixel_ratio if pixel_ratio is None else pixel_ratio
            color, rendered_us = color or frame.color, frame.timestamp_us
        pixels = as_pixels(frame)
        mask = None if damage is None else as_damage(damage, pixels.shape[1], pixels.shape[0])
        ratio = 1.0 if pixel_ratio is None else check_number("pixel_ratio", pixel_ratio, MIN_RATIO, MAX_RATIO)
        if not (color is None or isinstance(color, ColorSpace)):
            raise TypeError(f"color is a ColorSpace, like SRGB or DISPLAY_P3, or None, not {color!r}")
        color = None if color == SRGB else color
        with uninterrupted():
            taken = not self.closed and self.stream.publish(self, pixels, mask, ratio, color, rendered_us)
        if not taken:
            raise RuntimeError(f"the display {self.stream.name!r} was closed, or its cell has run again")

    def wait_ready(self, timeout: float | None) -> bool:
        """`Display.wait_ready`."""
        if timeout is None and not (self.stream.core.viewed or self._said_unseen) and current_cell():
            if self.stream.readiness.wait(PATIENCE, lambda: self.closed):
                return True
            if not (self.stream.core.viewed or self.closed):
                self._unattended, self._said_unseen = unattended(), True
                log.warning(UNATTENDED if self._unattended else LIVE, self.stream.name)
        if timeout is None and self._unattended and not self.stream.core.viewed:
            return False
        return self.stream.readiness.wait(timeout, lambda: self.closed)

    def snapshot(self) -> Snapshot:
        """`Display.snapshot`."""
        if (frame := self.stream.hold_from(self)) is None:
            raise RuntimeError(f"the display {self.stream.name!r} has no picture: nothing was published yet")
        try:
            return take(frame, alpha=self.stream.options.alpha)
        finally:
            self.stream.release(frame)

    # Input ------------------------------------------------------------------------------------------------------------

    def put_event(self, event: StreamEvent) -> None:
        """Queue *event* as if a viewer had sent it; a full queue drops its oldest event."""
        with self._lock:
            self._events.append(event)
            self._wake_sleepers()
        if isinstance(event, InputEvent):
            self.callbacks.call(event.event["type"], event)
            self.callbacks.call("*", event)

    def put_message(self, message: ChannelMessage, nbytes: int) -> None:
        """Handle *message*, *nbytes* long, as if a viewer had sent it."""
        self.callbacks.call(_CHANNEL + message.channel, message, nbytes=nbytes)

    def poll_events(self) -> list[StreamEvent]:
        """All events since the last call, oldest first."""
        with self._lock:
            taken = list(self._events)
            self._events.clear()
        return taken

    async def events(self) -> AsyncIterator[StreamEvent]:
        """Yield events as they arrive, until the publication is closed."""
        while True:
            with self._lock:
                event = self._events.popleft() if self._events else None
                if event is None:
                    if self.closed:
                        return
                    woken: Future[None] = Future()
                    self._sleepers.append(woken)
            if event:
                yield event
                continue
            try:
                await asyncio.wrap_future(woken)
            finally:
                with self._lock:
                    if woken in self._sleepers:
                        self._sleepers.remove(woken)

    def on(self, kinds: tuple[str, ...], thread: bool) -> Callable[[_F], _F]:
        """`Display.on`."""
        _refuse_functions(kinds, 'on("pointer_down")')
        known = (*EVENT_FIELDS, "*")
        if unknown := [str(kind) for kind in kinds if kind not in known] or ([] if kinds else ["nothing"]):
            meant = nearest_kind(unknown[0])
            hint = f"; did you mean {meant!r}?" if meant else ""
            raise ValueError(f"an event is one of {', '.join(known)}, not {', '.join(unknown)}{hint}")
        return self._adds_to_callbacks(kinds, thread)

    def on_message(self, channels: tuple[str, ...], thread: bool) -> Callable[[_F], _F]:
        """`Display.on_message`."""
        _refuse_functions(channels, 'on_message("pick")')
        if not channels:
            raise ValueError("on_message takes the names of channels, and there is none")
        for channel in channels:
            check_channel(channel)
        return self._adds_to_callbacks([_CHANNEL + channel for channel in channels], thread)

    def _adds_to_callbacks(self, kinds: Iterable[str], thread: bool) -> Callable[[_F], _F]:
        def add(function: _F) -> _F:
            for kind in kinds:
                self.callbacks.add(kind, function, thread=thread)
            return function

        return add

    def _wake_sleepers(self) -> None:
        sleepers, self._sleepers = self._sleepers, []
        for woken in sleepers:
            if woken.set_running_or_notify_cancel():
                woken.set_result(None)

    # Output -----------------------------------------------------------------------------------------------------------

    def send(
        self, message: Message, channel: str, to: str | Iterable[str] | None, *, latest: bool, capability: str
    ) -> None:
        """Send *message* to the viewers with *capability*, limited to the ``client_id`` or ids in *to*."""
        ids = _as_ids(to)
        self.check_open()
        self.stream.tell(message, channel, latest=latest, to=ids, capability=capability)

    def set_cursor(self, cursor: str | None) -> None:
        """`Display.set_cursor`."""
        if not (cursor is None or cursor in CURSORS):
            raise ValueError(f"a cursor is one of {', '.join(CURSORS)}, or None, not {cursor!r}")
        self.check_open()
        self.stream.set_cursor(cursor)

    def set_clipboard(self, text: str, to: str | Iterable[str] | None, most: int) -> None:
        """`Display.set_clipboard`; *most* is the largest message in bytes."""
        if not isinstance(text, str):
            raise TypeError(f"a clipboard is given text, not {text!r}")
        if not self.stream.options.clipboard:
            raise RuntimeError("this stream leaves clipboards alone: serve(..., clipboard=True), or configure")
        message = clipboard_message(text)
        if len(message) > most:
            raise ValueError(f"a message holds at most {most} bytes (Limits.channel_bytes), not {len(message)}")
        self.send(message, CLIPBOARD, to, latest=True, capability=CLIPBOARD)

    def reconfigure(self, options: StreamOptionsDict) -> None:
        """`Display.configure`. Runs on the hub's loop, as another thread may change other options or give the stream to
        another publication."""
        self.check_open()
        changed = self.stream.options.but(options)
        self.stream.reconfigure(changed)
        with self._lock:
            self._events = deque(self._events, changed.event_queue_size)
        self.callbacks.limit(changed.event_queue_size)

    # Recordings and sources -------------------------------------------------------------------------------------------

    @property
    def recordings(self) -> int:
        """Number of recordings in progress."""
        return len(self._films)

    def begin_recording(self, film: Film) -> None:
        """Register the recording *film*, which ends when the publication does."""
        with self._lock:
            self.check_open()
            self._films.add(film)

    def end_recording(self, film: Film) -> None:
        """Remove the recording *film*, whose file is closed."""
        with self._lock:
            self._films.discard(film)

    def begin_feed(self, feeding: Future[None]) -> None:
        """Cancel *feeding* when the publication closes. If it is closed already, cancel at once and raise
        `RuntimeError`."""
        with self._lock:
            self._feeds = [other for other in self._feeds if not other.done()] + [feeding]
            closed = self.closed
        if closed:
            feeding.cancel()
            self.check_open()

    # Life -------------------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Accept no more frames, and end `events` and ``wait_ready``; the viewers stay for the next publication."""
        with self._lock:
            self.closed = True
            self._wake_sleepers()
            films, feeds = tuple(self._films), tuple(self._feeds)
        self.callbacks.close()
        for feeding in feeds:
            feeding.cancel()
        self.stream.readiness.wake_waiters()
        for film in films:
            film.end()

    async def recorded(self) -> None:
        """Wait until the files of all recordings are closed."""
        with self._lock:
            done = [asyncio.wrap_future(film.done) for film in self._films]
        await asyncio.gather(*done, return_exceptions=True)


class AnyDisplay(Protocol):
    """A `display.Display`, for modules below it that take one."""

    _publication: Publication


def _refuse_functions(names: tuple[object, ...], call: str) -> None:
    """Raise `TypeError` if a decorator is used without parentheses, or gets the function along with the names."""
    if any(map(callable, names)):
        raise TypeError(
            f"this is given names, and its result the function: @display.{call}, or display.{call}(function)"
        )


def _as_ids(to: str | Iterable[str] | None) -> frozenset[str] | None:
    """The ids of a message's recipients; None for all viewers."""
    if to is None:
        return None
    ids = frozenset([to] if isinstance(to, str) else to)
    if wrong := [one for one in ids if not isinstance(one, str)]:
        raise TypeError(f"a message goes to a client_id, or several, or None for all, not {wrong[0]!r}")
    return ids
