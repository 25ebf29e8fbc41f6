"""One viewer: connects its session to its transport, with one task that reads and one that writes."""

from __future__ import annotations

import asyncio
import logging
import math
from itertools import count
from typing import TYPE_CHECKING

from .._core.held_input import Held
from .._core.outbox import pieces_of
from .._core.session import ViewerSession
from ..auth import Principal
from ..limits import ACK_TIMEOUT, MESSAGE_COST, Limits, TokenBucket
from ..protocol import CHANNELS, CloseCode, ProtocolError
from ..transport import TOO_MUCH, Transport, TransportClosed
from ..types import Encoded, Message

if TYPE_CHECKING:
    from .stream import Stream

log = logging.getLogger(__name__)

_client_ids = count(1)


class ViewerConnection:
    """Connects one session to its transport: one task reads, one writes. Owned by the hub's loop."""

    def __init__(self, session: ViewerSession, transport: Transport, stream: Stream | None, limits: Limits) -> None:
        self.session = session
        self.number = next(_client_ids)
        """Increases with every new viewer."""
        self.id = f"viewer-{self.number}"
        self.principal: Principal = None
        self.view_only = False
        self.token: str | None = None
        """The token that admitted it; None if an authenticator did."""
        self.refused_events = 0
        """Number of events withheld from the application, as the viewer is view-only or not in control."""
        self.held = Held()
        """The buttons and keys that are down, according to the events sent to the application."""
        self._transport = transport
        self._outbox = session.outbox
        self._stream = stream
        self._something_new = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._fault: asyncio.Future[None] = loop.create_future()
        self._clock = loop.time
        self._bucket = TokenBucket(limits.bytes_per_second, self._clock())

    def keep_to(self, limits: Limits) -> None:
        """Apply *limits* from now on."""
        self.session.keep_to(limits)
        self._bucket.rate = limits.bytes_per_second

    def wake(self) -> None:
        """Make the writing task check for something new to send."""
        self._something_new.set()

    def announce(self) -> None:
        """Send the stream's config again after a change."""
        assert self._stream
        self._outbox.show(self.session.greet(*self._stream.size))
        self.wake()

    def tell(self, message: Message, channel: str, *, latest: bool) -> None:
        """Send *message* as soon as the connection can take it. A viewer that reads too slowly is closed."""
        try:
            self._outbox.put(message, channel, latest=latest)
        except ProtocolError as fault:
            # `run` closes the connection: the writer may be blocked.
            if not self._fault.done():
                self._fault.set_exception(fault)
        self.wake()

    async def close(self, code: CloseCode, reason: str) -> None:
        # A close in the middle of a payload would look like a broken message.
        if self._writing:
            self._writing.cancel()
            await asyncio.wait({self._writing})
        await self._transport.close(code, reason)

    async def run(self) -> None:
        """Serve the viewer until it disconnects or has to be closed."""
        self._writing = asyncio.ensure_future(self._write())
        reading, watching = asyncio.ensure_future(self._read()), asyncio.ensure_future(self._watch())
        tasks = {self._writing, reading, watching, self._fault}
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
                log.info("%s closed: %s", self.id, result)
                self._note(f"{self.id} was closed: {result}")
                await self.close(result.code, result.reason)
            case _:
                log.error("%s closed: the hub failed it", self.id, exc_info=result)
                self._note(f"{self.id} was closed: {type(result).__name__}: {result}")
                await self.close(CloseCode.INTERNAL_ERROR, "the hub failed; its log says why")

    def _note(self, what: str) -> None:
        if self._stream:
            self._stream.note_error(what)

    async def _read(self) -> None:
        while True:
            message = await self._transport.receive()
            if not self._bucket.spend(len(message) + MESSAGE_COST, self._clock()):
                raise ProtocolError(CloseCode.OVER_LIMIT, TOO_MUCH)
            was_open = self.session.selection is not None
            was_seen = self.session.visible, self.session.viewport
            if latency := self._transport.latency:
                self.session.bandwidth.latency = min(latency, self.session.bandwidth.latency)
            told = self.session.receive(message, self._clock())
            if self._stream and not was_open:
                self._stream.admit(self)
            if self._stream and was_seen != (self.session.visible, self.session.viewport):
                self._stream.update_sizes()
            if self._stream and told:
                self._stream.deliver(self, told)
            self._something_new.set()

    async def _write(self) -> None:
        # Only this task sends, so that a config always precedes its frames.
        await self._something_new.wait()
        assert self._stream, "a hello is accepted for a stream only"
        for message in self.session.greet(*self._stream.size):
            await self._transport.send(message)
        while True:
            self._something_new.clear()
            now = self._clock()
            self._outbox.tell(self.session.stats(now))
            planned = not self._outbox.shows and await self._plan(now)
            if not await self._send_next() and (self._outbox.shows or not planned):
                self._stream.update_readiness()
                await self._wait_until(self.session.next_look)

    async def _send_next(self) -> bool:
        """Send the next message of the outbox; False if there is none."""
        cut = pieces_of(self.session.bandwidth) if self.session.takes(CHANNELS) else ()
        if (message := self._outbox.next(*cut)) is None:
            return False
        await self._transport.send(message)
        return True

    async def _plan(self, now: float) -> bool:
        """Encode what the session plans and put it into the outbox; False if there is nothing to send."""
        assert self._stream
        if messages := self.session.send_chunk(now):
            self._outbox.show(messages)
            return True
        if (frame := self._stream.hold()) is None:
            return False
        if (plan := self.session.plan(now)) is None:
            self._stream.release(frame)
            self._stream.step_video()
            self._encode_ahead()
            return False
        encoded = await self._sending_on(self._stream.encode(frame, plan))
        if not plan.still or self.session.still_wanted(plan):
            self._outbox.show(self.session.send(plan, encoded, self._clock()))
        if plan.still:
            self._encode_ahead()
        return True

    async def _sending_on(self, encoding: asyncio.Future[Encoded]) -> Encoded:
        """The result of *encoding*; other messages are sent meanwhile. It is shared, so it isn't cancelled when this
        viewer leaves."""
        if not encoding.done():
            encoding.add_done_callback(lambda _: self.wake())
        while not encoding.done():
            self._something_new.clear()
            if not await self._send_next():
                await self._something_new.wait()
        return encoding.result()

    def _encode_ahead(self) -> None:
        assert self._stream
        while frame := self._stream.hold():
            if (plan := self.session.plan_ahead(self._clock())) is None:
                self._stream.release(frame)
                return
            self._stream.encode(frame, plan)

    async def _watch(self) -> None:
        # A separate task: the writer is blocked while the peer doesn't read.
        while True:
            now = self._clock()
            self.session.check(now)
            await asyncio.sleep(min(self.session.closes_at - now, ACK_TIMEOUT))

    async def _wait_until(self, look: float) -> None:
        try:
            async with asyncio.timeout_at(None if math.isinf(look) else look):
                await self._something_new.wait()
        except TimeoutError:
            self._encode_ahead()
