"""WebSocket frames (RFC 6455, 5.2): the header of a message to a viewer, and short messages of viewers. No I/O.

The WebSocket library does the rest. Most of what goes over a connection are payloads one way and acknowledgements the
other, which need neither its queue nor a task.
"""

from __future__ import annotations

import struct

_FIN = 0x80
_MASKED = 0x80
_CONTINUATION, _TEXT, _BINARY = 0, 1, 2
_MASK_BYTES = 4
_SHORT = 4096
"""Most bytes of a text that is taken here: longer ones are rare, and unmasked faster by the library."""


def message_header(nbytes: int, *, text: bool) -> bytes:
    """Returns the header of a frame that is a whole message of the server."""
    first = _FIN | (_TEXT if text else _BINARY)
    if nbytes < 126:
        return struct.pack("!BB", first, nbytes)
    if nbytes < 1 << 16:
        return struct.pack("!BBH", first, 126, nbytes)
    return struct.pack("!BBQ", first, 127, nbytes)


class ShortMessages:
    """Takes short texts out of the bytes that a client sends. Everything else is the library's: longer messages, those
    in several frames, binary ones, control frames, all that is wrong. It must be told of each message that the library
    hands out, as none may overtake another."""

    def __init__(self) -> None:
        self._begun = b""
        """The beginning of a frame whose header is not complete."""
        self._left = 0
        """Bytes of the current frame that the library has yet to get."""
        self._fragmented = False
        """True in the middle of a message of several frames."""
        self._held = 0
        """Number of messages that the library has, or gets, and has not handed out."""

    def handed_out(self) -> None:
        """Records that the library has handed out a message."""
        self._held -= 1

    def split(self, data: bytes, most: int) -> list[str | bytes]:
        """Returns what *data* holds in this order: texts of at most *most* bytes, and bytes for the library."""
        if self._begun:
            data, self._begun = self._begun + data, b""
        parts: list[str | bytes] = []
        at, end = 0, len(data)
        while at < end:
            if not self._left:
                start, nbytes = _payload(data, at)
                if not start:
                    self._begun = data[at:]
                    break
                stop = start + nbytes
                if stop <= end and nbytes <= most and not self._held and not self._fragmented:
                    text = _text(data, at, start, stop)
                    if text is not None:
                        parts.append(text)
                        at = stop
                        continue
                self._pass_on(data[at])
                self._left = stop - at
            here = min(end, at + self._left)
            parts.append(data[at:here])
            self._left -= here - at
            at = here
        return parts

    def _pass_on(self, first: int) -> None:
        opcode, last = first & 0x0F, first >= _FIN
        if opcode in (_TEXT, _BINARY, _CONTINUATION):
            self._fragmented = not last
            self._held += last


def _payload(data: bytes, at: int) -> tuple[int, int]:
    """Returns where the payload of the frame at *at* begins, and its length; (0, 0) while its header is incomplete."""
    if at + 2 > len(data):
        return 0, 0
    mask = _MASK_BYTES if data[at + 1] & _MASKED else 0
    nbytes, start = data[at + 1] & 0x7F, at + 2
    if nbytes >= 126:
        start += 2 if nbytes == 126 else 8
        nbytes = int.from_bytes(data[at + 2 : start])
    return (start + mask, nbytes) if start + mask <= len(data) else (0, 0)


def _text(data: bytes, at: int, start: int, stop: int) -> str | None:
    """Returns the text of this whole frame if it is a message of its own, and short."""
    nbytes = stop - start
    if data[at] != _FIN | _TEXT or not data[at + 1] & _MASKED or nbytes > _SHORT:
        return None
    mask = data[start - _MASK_BYTES : start] * (nbytes // _MASK_BYTES + 1)
    bits = int.from_bytes(data[start:stop]) ^ int.from_bytes(mask[:nbytes])
    try:
        return bits.to_bytes(nbytes).decode()
    except UnicodeDecodeError:
        return None
