"""Messages to viewers: announcements, headers of payloads, the application's messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .._frames.chunk import Chunk
from .._frames.damage import TileMap
from ..types import ColorSpace, Encoded, EncodedPayload, Message, Rect, Selection
from .envelope import HeaderTemplate, pack_header, to_json
from .names import CHANNELS, CLIPBOARD, PROOF, TILES, VIDEO, check_channel


def proof_message(nonce: str, mac: str) -> str:
    """Returns the hub's answer to a hello that wants a proof: its own *nonce*, and the *mac* of `auth.prove`."""
    return to_json({"type": "proof", "nonce": nonce, "mac": mac})


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
    return to_json(
        {"type": "config", "transport": "webcodecs" if codec else "image", "width": width, "height": height}
        | ({"codec": codec} if codec else {})
        | {"coords": "frame-pixels", "features": features}
        | ({"alpha": True} if alpha else {})
        | (dict(hub) if hub and offered & {TILES, PROOF} else {})
        | ({"channel_bytes": channel_bytes} if CHANNELS in offered else {})
        | _meaning(pixel_ratio, color)
    )


def stats_message(**figures: float) -> str:
    return to_json({"type": "stats", **{name: round(value, 3) for name, value in figures.items()}})


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


class PackedHeaders:
    """The headers of images, packed once for all viewers that get the same: only the number is their own."""

    _MOST = 8
    """Most headers that are kept: one for each encoding in use."""

    def __init__(self) -> None:
        self._tiles: TileMap | None = None
        """The frame whose headers are kept: with them live its encodings, which may be large."""
        self._made: dict[tuple[int, bool, bool], tuple[Encoded, HeaderTemplate]] = {}
        """Headers by identity of the encoding."""

    def of(self, seq: int, tiles: TileMap, encoded: Encoded, *, by_tiles: bool, still: bool) -> bytes:
        """Returns the header of *encoded* for a viewer whose next number is *seq*."""
        if tiles is not self._tiles:
            self._tiles, self._made = tiles, {}
        key = id(encoded), by_tiles, still
        if (made := self._made.get(key)) is None:
            header = (tiles_header if by_tiles else picture_header)(0, tiles, encoded)
            if still:
                header["still"] = True
            if len(self._made) == self._MOST:
                del self._made[next(iter(self._made))]
            made = self._made[key] = encoded, HeaderTemplate(header)
        return made[1].pack(seq)


def chunk_header(seq: int, chunk: Chunk, rects: Iterable[Rect] | None, after: int | None) -> dict[str, Any]:
    """Returns the header of an access unit. For viewers of `rfb/tiles` it names the rectangles of the decoded frame to
    draw, and the video chunk that it refers to."""
    named = {} if rects is None else {"rects": [list(rect) for rect in rects]}
    kind = {"codec": chunk.codec, "bitstream": chunk.bitstream, "keyframe": chunk.keyframe}
    chain = {} if rects is None or chunk.keyframe else {"after": after}
    return _header("video_chunk", seq, chunk.tiles) | kind | named | chain


def set_quality_message(bitrate: float, fps: float) -> str:
    """Tells the viewer the bit rate and frame rate that the hub keeps to for it."""
    return to_json({"type": "set_quality", "bitrate": round(bitrate), "fps": round(fps, 1)})


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
    return to_json({"type": "cursor", "cursor": cursor})


def clipboard_message(text: str) -> str:
    """Sets the text of the user's clipboard."""
    return to_json({"type": "clipboard", "text": text})


def piece_header(number: int, of: int, text: bool, last: bool) -> dict[str, Any]:
    """Returns the header of a piece of message *of*; its payload is the next bytes of that, text or binary."""
    return {"type": "piece", "piece": number, "of": of, "text": text, "last": last}


def _header(kind: str, seq: int, frame: TileMap | EncodedPayload) -> dict[str, Any]:
    size = {"width": frame.width, "height": frame.height}
    meaning = _meaning(frame.pixel_ratio, frame.color)
    time_us = frame.frame_us if isinstance(frame, TileMap) else frame.timestamp_us
    return {"type": kind, "seq": seq, "timestamp_us": time_us} | size | meaning


def _meaning(pixel_ratio: float, color: ColorSpace | None) -> dict[str, Any]:
    """Returns the fields for the meaning of a frame's pixels, where it isn't what viewers assume without them."""
    ratio = {} if pixel_ratio == 1 else {"pixel_ratio": pixel_ratio}
    return ratio | ({} if color is None else {"color": color.to_dict()})
