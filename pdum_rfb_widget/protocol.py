"""The wire: messages, their validation, and negotiation. Pure functions, no I/O.

Two message forms: JSON text both ways, and from the hub one binary message for each payload, ``uint32 LE header length
| UTF-8 JSON header | payload``. Both sides ignore unknown message types and unknown fields.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, NoReturn, TypeAlias

from ._frames.chunk import Chunk
from ._frames.damage import TileMap
from .events import is_number, validate
from .types import BackendSelection as BackendSelection
from .types import (
    ColorSpace,
    Encoded,
    EncodedPayload,
    EventDict,
    Message,
    Rect,
    Selection,
    StreamOptions,
    VideoCodec,
    VideoFormat,
)
from .types import ImageMode as ImageMode

TILES = "rfb/tiles"
"""The capability of viewers that take several rectangles in a message."""

PROOF = "rfb/proof"
"""The capability of viewers that let a hub prove itself before they send their token."""

CHANNELS = "rfb/channels"
"""The capability of viewers that take an application's messages, a cursor, and large messages in pieces."""

CLIPBOARD = "rfb/clipboard"
"""The capability of viewers that write their user's clipboard and report what is pasted."""

VIDEO = {
    "webcodecs/h264-annexb": VideoFormat("h264", "420"),
    "rfb/h264-444": VideoFormat("h264", "444"),
    "rfb/h264-rgb": VideoFormat("h264", "rgb"),
    "rfb/vp9": VideoFormat("vp9", "420"),
    "rfb/av1": VideoFormat("av1", "420"),
}
"""The capabilities of viewers that decode video, and the format that each stands for."""

MIMES: dict[ImageMode, str] = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}

_MAX_SUPPORTED = 64
_CHANNEL = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_NONCE = re.compile(r"[0-9a-f]{32}")
_LENGTH = struct.Struct("<I")


class CloseCode(IntEnum):
    """Codes for closing a viewer; a reason in words always goes with one."""

    GOING_AWAY = 1001
    INTERNAL_ERROR = 1011
    MALFORMED = 4400
    BAD_CREDENTIAL = 4401
    BAD_ORIGIN = 4403
    NO_STREAM = 4404
    NO_FORMAT = 4406
    TIMED_OUT = 4408
    OVER_LIMIT = 4429


class ProtocolError(Exception):
    """The peer's fault: its connection is closed with this code and reason, and no other viewer notices."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(f"{code.value} {reason}")
        self.code = code
        self.reason = reason


class UnsupportedClient(ProtocolError):
    """The viewer takes nothing that the stream can send."""


# From a viewer --------------------------------------------------------------------------------------------------------


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


def parse_control(text: str) -> dict[str, Any]:
    """Returns a text message's fields; checks only that ``type`` is a string. Raises `ProtocolError`."""
    try:
        fields = json.loads(text, parse_constant=_no_constant)
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
    if draw_ms is not None and draw_ms < 0:
        _malformed("ack.draw_ms is a time, and negative")
    return Ack(_count(fields, "seq"), _count(fields, "decode_queue_size", 0), draw_ms)


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
    if not isinstance(name, str) or not _CHANNEL.fullmatch(name):
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


def _malformed(reason: str) -> NoReturn:
    raise ProtocolError(CloseCode.MALFORMED, reason)


# To a viewer ----------------------------------------------------------------------------------------------------------


def proof_message(nonce: str, mac: str) -> str:
    """Returns the hub's answer to a hello that wants a proof: its own *nonce*, and the *mac* of `auth.prove`."""
    return _json({"type": "proof", "nonce": nonce, "mac": mac})


def config_message(
    width: int,
    height: int,
    selection: Selection,
    alpha: bool,
    codec: str | None = None,
    pixel_ratio: float = 1.0,
    color: ColorSpace | None = None,
    supported: Iterable[str] = (),
    hub: Mapping[str, object] | None = None,
    clipboard: bool = False,
    channel_bytes: int = 0,
) -> str:
    """Announces what follows: images, or video of this *codec*; for a viewer of `rfb/tiles` both, in any order.

    *hub*, its id, its version and a resize policy other than the default, goes to viewers that *supported* something
    beyond the base; *channel_bytes*, the most that a message may hold, to those of `rfb/channels`.
    """
    offered = set(supported)
    extras = (PROOF, True), (CHANNELS, True), (CLIPBOARD, clipboard)
    features = [TILES] if selection.tiles else []
    features += [name for name, holds in extras if holds and name in offered]
    features += [name for name, form in VIDEO.items() if name.startswith("rfb/") and form in selection.video]
    return _json(
        {"type": "config", "transport": "webcodecs" if codec else "image", "width": width, "height": height}
        | ({"codec": codec} if codec else {})
        | {"coords": "frame-pixels", "features": features}
        | ({"alpha": True} if alpha else {})
        | (dict(hub) if hub and offered & {TILES, PROOF} else {})
        | ({"channel_bytes": channel_bytes} if CHANNELS in offered else {})
        | _meaning(pixel_ratio, color)
    )


def stats_message(**figures: float) -> str:
    return _json({"type": "stats", **{name: round(value, 3) for name, value in figures.items()}})


def image_header(p: EncodedPayload) -> dict[str, Any]:
    """Returns the header of an encoder's image, which is a whole frame."""
    return _header("image_frame", p.seq, p) | {"mime": p.mime}


def video_header(p: EncodedPayload) -> dict[str, Any]:
    """Returns the header of an encoder's access unit. Raises `ValueError` for a codec that isn't sent."""
    kind = {"codec": p.codec, "bitstream": bitstream_of(p.codec or ""), "keyframe": p.keyframe}
    return _header("video_chunk", p.seq, p) | kind


def header_for(p: EncodedPayload) -> dict[str, Any]:
    """Returns the header of an encoder's payload, for `pack_binary_message`."""
    return image_header(p) if p.kind == "image" else video_header(p)


def bitstream_of(codec: str) -> str:
    """Returns the framing of this WebCodecs *codec*'s access units on the wire."""
    for family, bitstream in (("avc1", "annexb"), ("vp09", "vp9"), ("av01", "av1")):
        if codec.startswith(family):
            return bitstream
    raise ValueError(f"a codec begins with avc1, vp09 or av01, not {codec!r}")


def picture_header(seq: int, tiles: TileMap, encoded: Encoded) -> dict[str, Any]:
    """Returns the header of a whole image, for base viewers."""
    return _header("image_frame", seq, tiles) | {"mime": encoded.parts[0].mime}


def tiles_header(seq: int, tiles: TileMap, encoded: Encoded) -> dict[str, Any]:
    """Returns the header of `rfb/tiles`: rectangles to draw together, ``[x, y, width, height, mime, bytes]`` each, one
    after the other in the payload. The rest of the canvas stays; a first message, or one of a new size, covers all."""
    parts = [[*part.rect, part.mime, len(part.data)] for part in encoded.parts]
    return _header("tiles", seq, tiles) | {"parts": parts}


def chunk_header(seq: int, chunk: Chunk, rects: Iterable[Rect] | None, after: int | None) -> dict[str, Any]:
    """Returns the header of an access unit. For viewers of `rfb/tiles` it names the rectangles of the decoded frame to
    draw, and the video chunk that it refers to."""
    named = {} if rects is None else {"rects": [list(rect) for rect in rects]}
    kind = {"codec": chunk.codec, "bitstream": chunk.bitstream, "keyframe": chunk.keyframe}
    chain = {} if rects is None or chunk.keyframe else {"after": after}
    return _header("video_chunk", seq, chunk.tiles) | kind | named | chain


def set_quality_message(bitrate: float, fps: float) -> str:
    """Tells the viewer the bit rate and frame rate that the hub keeps to for it."""
    return _json({"type": "set_quality", "bitrate": round(bitrate), "fps": round(fps, 1)})


def _header(kind: str, seq: int, frame: TileMap | EncodedPayload) -> dict[str, Any]:
    size = {"width": frame.width, "height": frame.height}
    meaning = _meaning(frame.pixel_ratio, frame.color)
    time_us = frame.frame_us if isinstance(frame, TileMap) else frame.timestamp_us
    return {"type": kind, "seq": seq, "timestamp_us": time_us} | size | meaning


def _meaning(pixel_ratio: float, color: ColorSpace | None) -> dict[str, Any]:
    """Returns the fields for the meaning of a frame's pixels, where it isn't what viewers assume without them."""
    ratio = {} if pixel_ratio == 1 else {"pixel_ratio": pixel_ratio}
    return ratio | ({} if color is None else {"color": color.to_dict()})


def pack_header(header: dict[str, Any]) -> bytes:
    """Returns *header* with its length in front, to be followed by the payload's bytes."""
    text = _json(header).encode()
    return _LENGTH.pack(len(text)) + text


def pack_binary_message(header: dict[str, Any], payload: bytes) -> bytes:
    """Returns one whole binary message."""
    return pack_header(header) + payload


# Channels -------------------------------------------------------------------------------------------------------------


def check_channel(name: object) -> None:
    """Raises `ValueError` for a name that an application's channel can't have."""
    if not isinstance(name, str) or not _CHANNEL.fullmatch(name):
        raise ValueError(f"a channel's name is 1 to 64 letters, digits, '.', '_', '~' or '-', not {name!r}")


def channel_message(channel: str, data: object, most: int) -> Message:
    """Returns *data* as a message for the viewers' pages: bytes as they are, all else as JSON.

    Raises `ValueError` for a name that a channel can't have, for *data* that holds more than *most* bytes, and for a
    number that JSON doesn't know; `TypeError` for what is neither bytes nor JSON.
    """
    check_channel(channel)
    if isinstance(data, (bytes, bytearray, memoryview)):
        message: Message = pack_header({"type": "message", "channel": channel}), bytes(data)
        nbytes = len(message[1])
    else:
        try:
            text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        except TypeError as error:
            raise TypeError(f"what goes to {channel!r} is bytes, or what JSON can say: {error}") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"what goes to {channel!r} is bytes, or what JSON can say: {error}") from None
        message, nbytes = f'{{"type":"message","channel":"{channel}","data":{text}}}', len(text)
    if nbytes > most:
        raise ValueError(f"a message holds at most {most} bytes (Limits.channel_bytes), not {nbytes}")
    return message


def cursor_message(cursor: str | None) -> str:
    """Sets the pointer's look over the canvas; None for the default."""
    return _json({"type": "cursor", "cursor": cursor})


def clipboard_message(text: str) -> str:
    """Sets the text of the user's clipboard."""
    return _json({"type": "clipboard", "text": text})


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a message that is sent in several."""

    of: int
    text: bool
    """True if the whole message is text."""
    last: bool
    data: bytes


def piece_header(number: int, of: int, text: bool, last: bool) -> dict[str, Any]:
    """Returns the header of a piece of message *of*; its payload is the next bytes of that, text or binary."""
    return {"type": "piece", "piece": number, "of": of, "text": text, "last": last}


def read_piece(message: bytes) -> Piece | None:
    """Returns the viewer's piece, None for another binary message. Raises `ProtocolError` for a malformed one."""
    header, payload = _unpack(message)
    if header.get("type") != "piece":
        return None
    text, last = header.get("text", False), header.get("last")
    if not isinstance(text, bool) or not isinstance(last, bool):
        _malformed("piece.text and piece.last are true or false")
    return Piece(_count(header, "of"), text, last, payload)


def _unpack(message: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        return unpack_binary_message(message)
    except (ValueError, RecursionError):
        _malformed("a binary message has a header of JSON, with its length in front")


def unpack_binary_message(buf: bytes) -> tuple[dict[str, Any], bytes]:
    """The inverse of `pack_binary_message`. Raises `ValueError` for a message that is cut short or has no header."""
    if len(buf) < _LENGTH.size or len(buf) < (start := _LENGTH.size + _LENGTH.unpack_from(buf)[0]):
        raise ValueError(f"a message of {len(buf)} bytes is cut short")
    header = json.loads(buf[_LENGTH.size : start])
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    return header, buf[start:]


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


# Negotiation ----------------------------------------------------------------------------------------------------------


def negotiate(supported: Iterable[str], options: StreamOptions, codecs: Sequence[VideoCodec] = ("h264",)) -> Selection:
    """Chooses the formats for a viewer: lossy images in the stream's own format where the viewer takes it, else in JPEG
    or WebP, exact ones in PNG; video where the stream may use it, of the first of *codecs* that the viewer takes.

    Raises `ProtocolError` with 4406 when the viewer takes none of them.
    """
    offered = set(supported)
    lossy = next((MIMES[mode] for mode in (options.image_mode, "jpeg", "webp") if MIMES[mode] in offered), None)
    exact = MIMES["png"] if MIMES["png"] in offered else None
    if exact and (options.quality == "lossless" or options.image_mode == "png" or options.alpha):
        lossy = None
    lossy = lossy if lossy != exact else None
    video = _negotiate_video(offered, options, codecs, bool(lossy), bool(lossy or exact))
    if not (lossy or exact or video):
        takes = ", ".join(MIMES.values()) + (f", {next(iter(VIDEO))}" if codecs else "")
        raise UnsupportedClient(CloseCode.NO_FORMAT, f"the viewer takes none of {takes}")
    return Selection(lossy, exact, TILES in offered, video)


def select_transport(
    client_supported: Iterable[str],
    *,
    has_h264: bool,
    has_nvenc: bool = False,
    prefer_video: bool = True,
    image_mode: ImageMode = "jpeg",
) -> BackendSelection:
    """Chooses for one encoder and one viewer as `negotiate` does, in the form for `build_encoder`: H.264 where both
    have it, unless *prefer_video* is false and the viewer takes images too; else *image_mode* or the next best.

    Raises `UnsupportedClient` where there is nothing.
    """
    options = StreamOptions(codec="h264", image_mode=image_mode)
    chosen = negotiate(client_supported, options, ("h264",) if has_h264 or has_nvenc else ())
    if chosen.video and (prefer_video or not chosen.pictures):
        return BackendSelection("webcodecs")
    mime = chosen.lossy or chosen.exact
    return BackendSelection("image", mime, image_mode=next(mode for mode, name in MIMES.items() if name == mime))


def _negotiate_video(
    offered: set[str], options: StreamOptions, codecs: Sequence[VideoCodec], lossy: bool, pictures: bool
) -> tuple[VideoFormat, ...]:
    if options.codec == "none" or options.alpha:
        return ()
    if options.codec == "auto" and pictures and (not lossy or isinstance(options.quality, int)):
        return ()  # the stream asks for a quality of images
    formats = [form for name, form in VIDEO.items() if name in offered and form.codec in codecs]
    if options.quality == "lossless" and pictures:
        return tuple(form for form in formats if form.chroma == "rgb")
    for codec in codecs:
        if chosen := tuple(form for form in formats if form.codec == codec and form.chroma != "rgb"):
            return chosen
    return ()
