"""The form of messages: JSON text, and binary messages of a header and a payload."""

from __future__ import annotations

import json
import struct
from typing import Any

_LENGTH = struct.Struct("<I")


def to_json(fields: dict[str, Any]) -> str:
    """Returns a text message without spaces."""
    return json.dumps(fields, separators=(",", ":"))


def pack_header(header: dict[str, Any]) -> bytes:
    """Returns *header* with its length in front, to be followed by the payload's bytes."""
    text = to_json(header).encode()
    return _LENGTH.pack(len(text)) + text


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
