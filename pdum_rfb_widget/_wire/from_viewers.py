"""Messages from viewers: parsed and checked, before anything acts on them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeAlias

from ..events import is_number, validate
from ..types import EventDict
from .envelope import unpack_binary_message
from .errors import CloseCode, ProtocolError
from .names import CHANNEL_NAME, PROOF

_MAX_SUPPORTED = 64
_NONCE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Hello:
    supported: tuple[str, ...]
    device_pixel_ratio: float
    token: str | None
    nonce: str | None = None
    """32 hex digits that the viewer chose."""
    no_video: str = ""
    """The reason why the viewer asks for no video, for people to read."""
    fields: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """All fields of the message."""

    @property
    def wants_proof(self) -> bool:
        """True if it is not a hello yet, but asks the hub for its proof."""
        return PROOF in self.supported and self.nonce is not None and self.token is None


@dataclass(frozen=True, slots=True)
class SetViewport:
    width: float
    height: float
    pwidth: float
    pheight: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Ack:
    seq: int
    decode_queue_size: int
    draw_ms: float | None
    """Milliseconds from the payload's arrival to its image on the canvas; viewers of `rfb/tiles` send it."""
    wait_ms: float = 0.0
    """Milliseconds before those, in which the viewer had the payload and was at the one before."""


@dataclass(frozen=True, slots=True)
class RequestKeyframe:
    reason: str


@dataclass(frozen=True, slots=True)
class DecoderReset:
    pass


@dataclass(frozen=True, slots=True)
class Event:
    event: EventDict


@dataclass(frozen=True, slots=True)
class Said:
    """A message on one of the application's channels."""

    channel: str
    data: Any
    nbytes: int = 0
    """Bytes of the whole message."""


@dataclass(frozen=True, slots=True)
class Got:
    """Acknowledges this piece, and all before it."""

    piece: int


ClientMessage: TypeAlias = Hello | SetViewport | Ack | RequestKeyframe | DecoderReset | Event | Said | Got


def parse(message: str | bytes, *, binary: bool = False) -> ClientMessage | None:
    """Returns the viewer's *message*, parsed; None for a type that this version doesn't know.

    With *binary* it may send binary messages too. Raises only `ProtocolError` with 4400, for anything malformed.
    """
    if isinstance(message, bytes):
        if not binary:
            _malformed("viewers send text, and a binary message came")
        header, payload = _unpack(message)
        return Said(_channel(header), payload) if header.get("type") == "message" else None
    fields = parse_control(message)
    reader = _READERS.get(fields["type"])
    return reader(fields) if reader else None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a message that is sent in several."""

    of: int
    text: bool
    """True if the whole message is text."""
    last: bool
    data: bytes


def read_piece(message: bytes) -> Piece | None:
    """Returns the viewer's piece, None for another binary message. Raises `ProtocolError` for a malformed one."""
    header, payload = _unpack(message)
    if header.get("type") != "piece":
        return None
    text, last = header.get("text", False), header.get("last")
    if not isinstance(text, bool) or not isinstance(last, bool):
        _malformed("piece.text and piece.last are true or false")
    return Piece(_count(header, "of"), text, last, payload)


def parse_control(text: str) -> dict[str, Any]:
    """Returns a text message's fields; checks only that ``type`` is a string. Raises `ProtocolError`."""
    try:
        fields = _decode(text)
    except (ValueError, RecursionError):
        _malformed("the message is not JSON")
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        _malformed("a message is an object with a type")
    return fields


def _hello(fields: dict[str, Any]) -> Hello:
    supported = fields.get("supported")
    if not (
        isinstance(supported, list)
        and len(supported) <= _MAX_SUPPORTED
        and all(isinstance(item, str) and len(item) <= 64 for item in supported)
    ):
        _malformed("hello.supported is a list of capability strings")
    token = fields.get("token")
    if not (token is None or isinstance(token, str)):
        _malformed("hello.token is a string")
    nonce = fields.get("nonce") if PROOF in supported else None
    if not (nonce is None or (isinstance(nonce, str) and _NONCE.fullmatch(nonce))):
        _malformed("hello.nonce is 32 hex digits")
    no_video = fields.get("no_video", "")
    if not isinstance(no_video, str):
        _malformed("hello.no_video is a string")
    return Hello(tuple(supported), _number(fields, "device_pixel_ratio", 1.0), token, nonce, no_video[:256], fields)


def _set_viewport(fields: dict[str, Any]) -> SetViewport:
    box = SetViewport(*(_number(fields, name) for name in ("width", "height", "pwidth", "pheight", "ratio")))
    return box if box.ratio > 0 else replace(box, ratio=1.0)


def _ack(fields: dict[str, Any]) -> Ack:
    draw_ms = _number(fields, "draw_ms") if "draw_ms" in fields else None
    wait_ms = _number(fields, "wait_ms", 0.0)
    if (draw_ms is not None and draw_ms < 0) or wait_ms < 0:
        _malformed("ack.draw_ms and ack.wait_ms are times, and one is negative")
    return Ack(_count(fields, "seq"), _count(fields, "decode_queue_size", 0), draw_ms, wait_ms)


def _request_keyframe(fields: dict[str, Any]) -> RequestKeyframe:
    reason = fields.get("reason", "")
    if not isinstance(reason, str):
        _malformed("request_keyframe.reason is a string")
    return RequestKeyframe(reason[:256])


def _decoder_reset(fields: dict[str, Any]) -> DecoderReset:
    return DecoderReset()


def _event(fields: dict[str, Any]) -> Event | None:
    try:
        event = validate(fields.get("event"))
    except ValueError as error:
        _malformed(str(error))
    return Event(event) if event else None


def _said(fields: dict[str, Any]) -> Said:
    if "data" not in fields:
        _malformed("a message has data")
    return Said(_channel(fields), fields["data"])


def _got(fields: dict[str, Any]) -> Got:
    return Got(_count(fields, "piece"))


def _channel(fields: dict[str, Any]) -> str:
    name = fields.get("channel")
    if not isinstance(name, str) or not CHANNEL_NAME.fullmatch(name):
        _malformed("a channel's name is 1 to 64 letters, digits, '.', '_', '~' or '-'")
    return name


_READERS: dict[str, Callable[[dict[str, Any]], ClientMessage | None]] = {
    "hello": _hello,
    "set_viewport": _set_viewport,
    "ack": _ack,
    "request_keyframe": _request_keyframe,
    "decoder_reset": _decoder_reset,
    "event": _event,
    "message": _said,
    "got": _got,
}


def _unpack(message: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        return unpack_binary_message(message)
    except (ValueError, RecursionError):
        _malformed("a binary message has a header of JSON, with its length in front")


def _number(fields: dict[str, Any], name: str, default: float | None = None) -> float:
    value: Any = fields.get(name, default)
    if not is_number(value):
        _malformed(f"{fields['type']}.{name} is a number")
    return float(value)


def _count(fields: dict[str, Any], name: str, default: int | None = None) -> int:
    value: Any = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        _malformed(f"{fields['type']}.{name} is a whole number")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode  # `json.loads` would make a decoder for each message


def _malformed(reason: str) -> NoReturn:
    raise ProtocolError(CloseCode.MALFORMED, reason)
