"""What publishes into a stream: the input that waits for its application, its recordings and its sources.

Threads: the hub's loop puts events and messages, any thread takes them; a lock guards what both touch.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any, Protocol

from .._system.fork_guard import Guarded, Own
from ..types import ChannelMessage, InputEvent, StreamEvent
from .callbacks import Callbacks
from .stream import Stream

CHANNEL = "message on "
"""Before the name of a channel, the kind of its callbacks: no event is named so."""


class Film(Protocol):
    """A recording, which ends with what it records."""

    done: Future[None]

    def end(self) -> None: ...


class Publication:
    """The inside of a `display.Display`: what the hub knows of the application that publishes into *stream*."""

    # What has locks, or is its stream's: a fork gets an error instead.
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
        """The process that made it, which alone can use it."""
        self.session = session
        """The session of a marimo app that it closes with."""
        self.handle: Any = None
        """What the application holds of it, a `display.Display`."""
        self.closed = False
        self.callbacks = Callbacks(loop, event_queue_size, stream.note_error)
        """What `Display.on` has asked for."""
        self.stream = stream
        self._lock = threading.Lock()  # guards what follows
        self._events: deque[StreamEvent] = deque(maxlen=event_queue_size)
        self._sleepers: list[Future[None]] = []
        self._films: set[Film] = set()
        self._feeds: list[Future[None]] = []

    def check_open(self) -> None:
        """Raise `RuntimeError` once it is closed."""
        if self.closed:
            raise RuntimeError(f"the display {self.stream.name!r} was closed, or its cell has run again")

    # Input ------------------------------------------------------------------------------------------------------------

    def put_event(self, event: StreamEvent) -> None:
        """Queue *event* as if a viewer had sent it; the oldest goes when the queue is full."""
        with self._lock:
            self._events.append(event)
            self._wake_sleepers()
        if isinstance(event, InputEvent):
            self.callbacks.call(event.event["type"], event)
            self.callbacks.call("*", event)

    def put_message(self, message: ChannelMessage, nbytes: int) -> None:
        """Have *message*, of so many bytes, handled as if a viewer had sent it."""
        self.callbacks.call(CHANNEL + message.channel, message, nbytes=nbytes)

    def limit_events(self, most: int) -> None:
        """Let at most *most* events wait, and calls in each place where they wait; the oldest go."""
        with self._lock:
            self._events = deque(self._events, most)
        self.callbacks.limit(most)

    def poll_events(self) -> list[StreamEvent]:
        """All that came since it was last taken, oldest first."""
        with self._lock:
            taken = list(self._events)
            self._events.clear()
        return taken

    async def events(self) -> AsyncIterator[StreamEvent]:
        """What comes, until it is closed."""
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

    def _wake_sleepers(self) -> None:
        sleepers, self._sleepers = self._sleepers, []
        for woken in sleepers:
            if woken.set_running_or_notify_cancel():
                woken.set_result(None)

    # Recordings and sources -------------------------------------------------------------------------------------------

    @property
    def recordings(self) -> int:
        """How many films are being made."""
        return len(self._films)

    def begin_recording(self, film: Film) -> None:
        """End *film* when there is nothing more to come."""
        with self._lock:
            self.check_open()
            self._films.add(film)

    def end_recording(self, film: Film) -> None:
        """The file of *film* is closed."""
        with self._lock:
            self._films.discard(film)

    def begin_feed(self, feeding: Future[None]) -> None:
        """Cancel *feeding* when this is closed; at once, with `RuntimeError`, where it is."""
        with self._lock:
            self._feeds = [other for other in self._feeds if not other.done()] + [feeding]
            closed = self.closed
        if closed:
            feeding.cancel()
            self.check_open()

    # Life -------------------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Take no more frames, and end `events` and ``wait_ready``; the viewers stay for the next publication."""
        with self._lock:
            self.closed = True
            self._wake_sleepers()
            films, feeds = tuple(self._films), tuple(self._feeds)
        self.callbacks.close()
        for feeding in feeds:
            feeding.cancel()
        self.stream.wake_waiters()
        for film in films:
            film.end()

    async def recorded(self) -> None:
        """Wait until the files of its recordings are closed."""
        with self._lock:
            done = [asyncio.wrap_future(film.done) for film in self._films]
        await asyncio.gather(*done, return_exceptions=True)
