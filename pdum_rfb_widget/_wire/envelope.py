"""The form of messages: JSON text, and binary messages of a header and a payload."""

from __future__ import annotations

import json
import struct
from typing import Any

_LENGTH = struct.Struct("<I")
_MARK = "\0seq"
"""A text that no header holds."""


def to_json(fields: dict[str, Any]) -> str:
    """Returns a text message without spaces."""
    return json.dumps(fields, separators=(",", ":"))


def pack_header(header: dict[str, Any]) -> bytes:
    """Returns *header* with its length in front, to be followed by the payload's bytes."""
    text = to_json(header).encode()
    return _LENGTH.pack(len(text)) + text


class HeaderTemplate:
    """A packed header in which only ``seq`` varies."""

    def __init__(self, header: dict[str, Any]) -> None:
        before, after = to_json({**header, "seq": _MARK}).split(json.dumps(_MARK))
        self._before, self._after = before.encode(), after.encode()
        self._nbytes = len(self._before) + len(self._after)

    def pack(self, seq: int) -> bytes:
        """Returns what `pack_header` does for the header with this *seq*."""
        number = b"%d" % seq
        return b"".join((_LENGTH.pack(self._nbytes + len(number)), self._before, number, self._after))


def pack_binary_message(header: dict[str, Any], payload: bytes) -> bytes:
    """Returns one whole binary message."""
    return pack_header(header) + payload


def unpack_binary_message(buf: bytes) -> tuple[dict[str, Any], bytes]:
    """The inverse of `pack_binary_message`. Raises `ValueError` for a message that is cut short or has no header."""
    if len(buf) < _LENGTH.size or len(buf) < (start := _LENGTH.size + _LENGTH.unpack_from(buf)[0]):
        raise ValueError(f"a message of {len(buf)} bytes is cut short")
    header = json.loads(buf[_LENGTH.size : start])
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    return header, buf[start:]
