"""Orders the messages to one viewer, and cuts large ones into pieces. It does no I/O and reads no clock.

`Outbox` holds the messages that wait for a viewer in three queues: urgent (control, and the application's short
messages), images and video, and the application's long messages. Each queue goes before the next, but one that was
passed over often gets a turn, so that every queue makes progress. For viewers of `rfb/channels` long messages go in
pieces, with few enough in transit that urgent messages get through. `Inbox` joins the pieces that viewers send.
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
"""Seconds of bandwidth that one piece takes: urgent messages wait for it, and nobody should notice."""
PIECES_ON_THE_WAY = 3
"""Pieces in transit: enough to keep the connection busy until the viewer's answer to the first arrives."""
SHORT = 16 * 1024
"""Bytes up to which a message is never cut, and up to which an application's message is urgent."""
LARGEST = 8 * 1024 * 1024
"""Most bytes of a piece at any bandwidth: jupyter-server-proxy drops messages above 10 MiB."""

_MOST_PIECES = 256
"""Most pieces in transit to a viewer that acknowledges none."""
_OVERHEAD = 256
"""Bytes of memory that a message takes besides its content."""


def size_of(message: Message) -> int:
    """Returns the size in bytes; all of the hub's text is ASCII."""
    return len(message) if isinstance(message, str) else len(message[0]) + len(message[1])


@dataclass(slots=True, eq=False)
class _Waiting:
    message: Message
    channel: str = ""
    """Channel of an application's message; empty for the hub's own."""
    number: int = 0
    """Number of a message that is sent in pieces; 0 until it is cut."""
    rest: memoryview | None = None
    """The bytes of a cut message that are not sent yet."""

    @property
    def left(self) -> int:
        return size_of(self.message) if self.rest is None else len(self.rest)


@dataclass(slots=True, eq=False)
class _Queue:
    patience: int
    """Messages of other queues that may go first before this queue gets a turn."""
    waiting: deque[_Waiting] = field(default_factory=deque)
    passed: int = 0


class Outbox:
    """The messages that wait for one viewer. At most *most* bytes of the application's messages wait."""

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
        """Numbers and bytes of the pieces that the viewer has not acknowledged."""

    # Input ------------------------------------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """True while nothing waits."""
        return not (self._urgent.waiting or self._pictures.waiting or self._long.waiting)

    @property
    def shows(self) -> bool:
        """True while an image or a video chunk waits, or the rest of one."""
        return bool(self._pictures.waiting)

    def show(self, messages: Iterable[Message]) -> None:
        """Queues images or video, and what has to come before them, in this order."""
        self._pictures.waiting.extend(map(_Waiting, messages))

    def tell(self, messages: Iterable[Message]) -> None:
        """Queues the hub's own control messages."""
        for message in messages:
            self._urgent.waiting.append(_Waiting(message))

    def put(self, message: Message, channel: str, *, latest: bool) -> None:
        """Queues an application's message after all others of its *channel*. With *latest* it replaces one that was
        also put with *latest* and still waits. Raises `ProtocolError` when too much waits."""
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
        """Records that the viewer has this piece, and all before it. Raises `ProtocolError` if it was not sent."""
        if number > self._sent:
            raise ProtocolError(CloseCode.MALFORMED, f"piece {number} was acknowledged and never sent")
        while self._on_the_way and self._on_the_way[0][0] <= number:
            self._on_the_way.popleft()

    # Output -----------------------------------------------------------------------------------------------------------

    def next(self, piece: float = math.inf, most_on_the_way: float = math.inf) -> Message | None:
        """Returns the next message to send; None when nothing waits, or all has to wait for `got`. Messages longer than
        *piece* bytes are cut; no piece is sent while *most_on_the_way* bytes are in transit."""
        pictures = self._pictures.waiting
        if pictures and not (self._urgent.waiting or self._long.waiting or _is_cut(pictures[0], piece)):  # as usual
            self._pictures.passed = 0
            return pictures.popleft().message
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
            message = waiting.message
            waiting.rest = memoryview(message.encode() if isinstance(message, str) else b"".join(message))
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
    """Returns the bytes of a piece at this *bandwidth*, and the bytes that may be in transit."""
    rate = bandwidth.narrow
    piece = min(max(SHORT, PIECE_SECONDS * rate), LARGEST)
    if math.isinf(rate):
        return piece, math.inf
    if not (bandwidth.last_rate and math.isfinite(bandwidth.latency)):
        return piece, math.inf  # a guess must not slow a connection that may be faster
    return piece, PIECES_ON_THE_WAY * piece + bandwidth.latency * rate


class Inbox:
    """Joins the pieces that a viewer sends, at most *most* bytes at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._begun: dict[int, list[bytes]] = {}
        self._bytes = 0

    def take(self, message: str | bytes) -> str | bytes | None:
        """Returns the message that this one completes; None until it is complete. Raises `ProtocolError`."""
        if isinstance(message, str) or (piece := read_piece(message)) is None:
            return message
        parts = self._begun.setdefault(piece.of, [])
        parts.append(piece.data)
        # A minimum for each: pieces without an end may hold no data, and still take memory.
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
