"""What goes over one viewer's connection: in which order, and in which pieces. It does no I/O and reads no clock.

`Outbox` holds what waits for a viewer, in three queues: what is urgent, which are control and the application's short
messages; pictures; and the application's long messages. Each goes before the next, but one that was passed over often
has its turn, so that all of them get on. For viewers of `rfb/channels` what is long goes in pieces, of which only so
many are on the way that what is urgent comes through. `Inbox` joins the pieces that viewers send.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..protocol import CloseCode, ProtocolError, pack_header, piece_header, read_piece
from ..types import Message
from .policy.bandwidth import BandwidthEstimator

PIECE_SECONDS = 0.02
"""What of a link a piece takes up: what is urgent waits for it, and that shall not be felt."""
PIECES_ON_THE_WAY = 3
"""Enough that a link does not run dry while the viewer's answer to the first of them is on its way."""
SHORT = 16 * 1024
"""Bytes of a message that is not cut on any link, and of the application's that is urgent."""
LARGEST = 8 * 1024 * 1024
"""Bytes of a piece on any link: jupyter-server-proxy drops messages above 10 MiB."""

_MOST_PIECES = 256
"""On the way to a viewer that never says what it has got."""
_OVERHEAD = 256
"""Bytes of memory that a message takes besides its own."""


def size_of(message: Message) -> int:
    """In bytes; all text of the hub's is ASCII."""
    return len(message) if isinstance(message, str) else len(message[0]) + len(message[1])


@dataclass(slots=True, eq=False)
class _Waiting:
    message: Message
    channel: str = ""
    """Of an application's message."""
    number: int = 0
    """Of a message that is cut; 0 until it is."""
    rest: memoryview | None = None
    """Of it, what is not sent yet."""

    @property
    def left(self) -> int:
        return size_of(self.message) if self.rest is None else len(self.rest)


@dataclass(slots=True, eq=False)
class _Queue:
    patience: int
    """How many messages of others it lets pass."""
    waiting: deque[_Waiting] = field(default_factory=deque)
    passed: int = 0


class Outbox:
    """What waits for one viewer. At most *most* bytes of the application's wait."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._bytes = 0
        self._urgent, self._pictures, self._long = _Queue(0), _Queue(8), _Queue(4)
        self._queues = self._urgent, self._pictures, self._long
        self._long_of: Counter[str] = Counter()
        self._replaceable: dict[str, tuple[_Queue, _Waiting]] = {}
        self._cut = 0
        self._sent = 0
        self._on_the_way: deque[tuple[int, int]] = deque()
        """Numbers and bytes of the pieces that the viewer has not said it got."""

    # What it is given -------------------------------------------------------------------------------------------------

    @property
    def shows(self) -> bool:
        """A picture waits, or the rest of one."""
        return bool(self._pictures.waiting)

    def show(self, messages: Iterable[Message]) -> None:
        """Pictures, and what has to come before them, in this order."""
        self._pictures.waiting.extend(map(_Waiting, messages))

    def tell(self, messages: Iterable[Message]) -> None:
        """What the hub itself has to say."""
        self._urgent.waiting.extend(map(_Waiting, messages))

    def put(self, message: Message, channel: str, *, latest: bool) -> None:
        """A message of the application's, after all others of this *channel*. With *latest* it takes the place of one
        that was put so too and still waits. Raises `ProtocolError` when too much waits."""
        if latest:
            self._withdraw(channel)
        waiting = _Waiting(message, channel)
        queue = self._long if channel in self._long_of or waiting.left > SHORT else self._urgent
        if queue is self._long:
            self._long_of[channel] += 1
        queue.waiting.append(waiting)
        if latest:
            self._replaceable[channel] = queue, waiting
        self._bytes += waiting.left + _OVERHEAD
        if self._bytes > self.most:
            raise ProtocolError(CloseCode.OVER_LIMIT, f"{self.most} bytes of messages wait for the viewer")

    def got(self, number: int) -> None:
        """The viewer has this piece, and all before it. Raises `ProtocolError` for one that was not sent."""
        if number > self._sent:
            raise ProtocolError(CloseCode.MALFORMED, f"piece {number} was acknowledged and never sent")
        while self._on_the_way and self._on_the_way[0][0] <= number:
            self._on_the_way.popleft()

    # What it gives ----------------------------------------------------------------------------------------------------

    def next(self, piece: float = math.inf, most_on_the_way: float = math.inf) -> Message | None:
        """What to send now, None where nothing waits, or has to wait for `got`. What is longer than *piece* bytes is
        cut, and no further pieces are sent while *most_on_the_way* bytes are."""
        on_the_way = sum(nbytes for _, nbytes in self._on_the_way)
        may_cut = on_the_way < most_on_the_way and len(self._on_the_way) < _MOST_PIECES
        ready = [queue for queue in self._queues if queue.waiting and (may_cut or not _is_cut(queue.waiting[0], piece))]
        if not ready:
            return None
        chosen = next((queue for queue in reversed(ready) if queue.passed > queue.patience), ready[0])
        for queue in ready:
            queue.passed = 0 if queue is chosen else queue.passed + 1
        waiting = chosen.waiting[0]
        if (held := self._replaceable.get(waiting.channel)) and held[1] is waiting:
            del self._replaceable[waiting.channel]
        if _is_cut(waiting, piece):
            return self._cut_off(chosen, waiting, piece)
        self._drop(chosen, waiting)
        return waiting.message

    def _cut_off(self, queue: _Queue, waiting: _Waiting, piece: float) -> Message:
        if waiting.rest is None:
            self._cut += 1
            waiting.number = self._cut
            text = isinstance(waiting.message, str)
            waiting.rest = memoryview(waiting.message.encode() if text else b"".join(waiting.message))  # type: ignore[union-attr,arg-type]
        nbytes = int(min(piece, len(waiting.rest)))
        if last := nbytes == len(waiting.rest):
            self._drop(queue, waiting)
        part, waiting.rest = bytes(waiting.rest[:nbytes]), waiting.rest[nbytes:]
        self._sent += 1
        self._on_the_way.append((self._sent, nbytes))
        return pack_header(piece_header(self._sent, waiting.number, isinstance(waiting.message, str), last)), part

    def _withdraw(self, channel: str) -> None:
        if held := self._replaceable.pop(channel, None):
            self._drop(*held)

    def _drop(self, queue: _Queue, waiting: _Waiting) -> None:
        queue.waiting.remove(waiting)
        if not waiting.channel:
            return
        self._bytes -= size_of(waiting.message) + _OVERHEAD
        if queue is self._long:
            self._long_of[waiting.channel] -= 1
            if not self._long_of[waiting.channel]:
                del self._long_of[waiting.channel]


def _is_cut(waiting: _Waiting, piece: float) -> bool:
    return waiting.rest is not None or waiting.left > piece


def pieces_of(bandwidth: BandwidthEstimator) -> tuple[float, float]:
    """How long a piece is on this *bandwidth*, and how much may be on the way."""
    rate = bandwidth.narrow
    piece = min(max(SHORT, PIECE_SECONDS * rate), LARGEST)
    if math.isinf(rate):
        return piece, math.inf
    if not (bandwidth.last_rate and math.isfinite(bandwidth.latency)):
        return piece, math.inf  # a guess must not hold up a link that may be faster
    return piece, PIECES_ON_THE_WAY * piece + bandwidth.latency * rate


class Inbox:
    """Joins what a viewer sends in pieces, at most *most* bytes at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._begun: dict[int, list[bytes]] = {}
        self._bytes = 0

    def take(self, message: str | bytes) -> str | bytes | None:
        """The whole message that is complete with this one; None until it is. Raises `ProtocolError`."""
        if isinstance(message, str) or (piece := read_piece(message)) is None:
            return message
        parts = self._begun.setdefault(piece.of, [])
        parts.append(piece.data)
        # However little it holds: pieces without end hold nothing each, and take memory.
        self._bytes += max(len(piece.data), _OVERHEAD)
        if self._bytes > self.most:
            raise ProtocolError(CloseCode.OVER_LIMIT, f"a message of a viewer holds at most {self.most} bytes")
        if not piece.last:
            return None
        self._bytes -= sum(max(len(part), _OVERHEAD) for part in parts)
        whole = b"".join(self._begun.pop(piece.of))
        if not piece.text:
            return whole
        try:
            return whole.decode()
        except UnicodeDecodeError:
            raise ProtocolError(CloseCode.MALFORMED, "a text in pieces is not UTF-8") from None
