"""One application's hold on a stream: the input that waits for it, its recordings and its sources.

Threads: the hub's loop puts events and messages, any thread takes them; a lock guards what both touch.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from .._system.fork_guard import Guarded, Own
from ..events import EVENT_FIELDS, nearest_kind
from ..options import StreamOptionsDict
from ..protocol import check_channel
from ..types import ChannelMessage, InputEvent, Message, StreamEvent
from .callbacks import Callbacks, Function
from .stream import Stream

_F = TypeVar("_F", bound=Function)

_CHANNEL = "message on "
"""Prefix that tells callbacks of channels from those of events."""


class Film(Protocol):
    """A recording, which ends with what it records."""

    done: Future[None]

    def end(self) -> None: ...


class Publication:
    """An application that publishes into *stream*, as the hub sees it. `display.Display` is its public surface."""

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
        """The session of a marimo app; the stream closes with it."""
        self.handle: Any = None
        """The application's `display.Display`."""
        self.closed = False
        self.callbacks = Callbacks(loop, event_queue_size, stream.note_error)
        """Functions registered by `Display.on` and `Display.on_message`."""
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
        self.callbacks.call(_CHANNEL + message.channel, message, nbytes=nbytes)

    def poll_events(self) -> list[StreamEvent]:
        """All events since the last call, oldest first."""
        with self._lock:
            taken = list(self._events)
            self._events.clear()
        return taken

    async def events(self) -> AsyncIterator[StreamEvent]:
        """The events as they come, until the publication is closed."""
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
        """Send *message* to the viewers of *capability*, or those of them that *to* names by their ``client_id``."""
        ids = _as_ids(to)
        self.check_open()
        self.stream.tell(message, channel, latest=latest, to=ids, capability=capability)

    def reconfigure(self, options: StreamOptionsDict) -> None:
        """`Display.configure`, on the hub's loop: another thread may have changed other options, or made the stream
        another publication's."""
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


def _refuse_functions(names: tuple[object, ...], call: str) -> None:
    """Raises `TypeError` where a decorator was used without parentheses, or given the function besides the names."""
    if any(map(callable, names)):
        raise TypeError(
            f"this is given names, and its result the function: @display.{call}, or display.{call}(function)"
        )


def _as_ids(to: str | Iterable[str] | None) -> frozenset[str] | None:
    """The viewers that a message is for; None for all."""
    if to is None:
        return None
    ids = frozenset([to] if isinstance(to, str) else to)
    if wrong := [one for one in ids if not isinstance(one, str)]:
        raise TypeError(f"a message goes to a client_id, or several, or None for all, not {wrong[0]!r}")
    return ids
