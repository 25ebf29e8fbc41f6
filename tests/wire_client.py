"""A viewer made of the base protocol's page alone: `websockets` and the standard library, nothing of the package.

It holds the hub to every word of that page: whatever breaks one is an `AssertionError` that says which.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from websockets.sync.client import ClientConnection, connect

STATS = {"rtt_ms", "fps_sent", "fps_acked", "bitrate_bps", "encode_ms", "decode_queue_size", "dropped", "target_fps"}


@dataclass
class Payload:
    """One binary message."""

    header: dict[str, Any]
    data: bytes

    @property
    def size(self) -> tuple[int, int]:
        return self.header["width"], self.header["height"]


class WireClient:
    """Connects, says hello, and takes what comes. A context manager that leaves."""

    def __init__(self, url: str, token: str | None, *supported: str) -> None:
        self._connection = connect(url, compression=None, max_size=None)
        self.socket: ClientConnection = self._connection.__enter__()
        self.config: dict[str, Any] = {}
        self.told: list[dict[str, Any]] = []
        """All texts that came."""
        self._seq = self._timestamp = -1
        self._fresh = True
        hello = {"type": "hello", "supported": supported, "device_pixel_ratio": 1.0}
        self.say(**hello | ({} if token is None else {"token": token}))

    def __enter__(self) -> WireClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.__exit__(None, None, None)

    def say(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def ack(self, payload: Payload) -> None:
        self.say(type="ack", seq=payload.header["seq"], decode_queue_size=0, displayed=True)

    def next(self, *, ack: bool = True, timeout: float = 60) -> Payload:
        """The next payload, held to the page, and acknowledged."""
        while isinstance(message := self.socket.recv(timeout=timeout), str):
            self._hear(json.loads(message))
        (length,) = struct.unpack_from("<I", message)
        payload = Payload(json.loads(message[4 : 4 + length]), message[4 + length :])
        self._check(payload)
        if ack:
            self.ack(payload)
        return payload

    def hear(self, kind: str) -> dict[str, Any]:
        """The next text of this *kind*."""
        while True:
            message = self.socket.recv(timeout=60)
            assert isinstance(message, str), f"a payload in place of {kind}"
            self._hear(json.loads(message))
            if self.told[-1]["type"] == kind:
                return self.told[-1]

    def _hear(self, message: dict[str, Any]) -> None:
        self.told.append(message)
        if message["type"] == "config":
            assert message["transport"] in ("image", "webcodecs")
            assert message["coords"] == "frame-pixels"
            assert message["width"] > 0 < message["height"]
            assert (message["transport"] == "webcodecs") == ("codec" in message), "the codec when video"
            assert not message.get("features"), "none was offered"
            self.config = message
        elif message["type"] == "stats":
            assert message.keys() >= STATS
            assert all(isinstance(value, (int, float)) for name, value in message.items() if name != "type")

    def _check(self, payload: Payload) -> None:
        header, config = payload.header, self.config
        assert config, "a config comes before any payload"
        kinds = {"image": "image_frame", "webcodecs": "video_chunk"}
        assert header["type"] == kinds[config["transport"]], "payloads are of the kind that the config named"
        assert payload.size == (config["width"], config["height"]), "a config comes before another size"
        for name in ("pixel_ratio", "color"):
            assert header.get(name) == config.get(name), f"a config comes before another {name}"
        assert header["seq"] > self._seq, "seq grows"
        assert header["timestamp_us"] >= self._timestamp, "timestamps are monotonic"
        if header["type"] == "video_chunk":
            assert (header["bitstream"], header["codec"]) == ("annexb", config["codec"])
            assert header["keyframe"] or not self._fresh, "the first is a keyframe"
            check_access_unit(payload.data, header)
        else:
            check_picture(payload.data, header["mime"], payload.size)
        self._seq, self._timestamp, self._fresh = header["seq"], header["timestamp_us"], False


# Pictures -------------------------------------------------------------------------------------------------------------


def check_picture(data: bytes, mime: str, size: tuple[int, int]) -> None:
    """The size that the bytes themselves say."""
    sizes = {"image/png": _size_of_png, "image/jpeg": _size_of_jpeg, "image/webp": _size_of_webp}
    assert sizes[mime](data) == size


def _size_of_png(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _size_of_jpeg(data: bytes) -> tuple[int, int]:
    assert data[:2] == b"\xff\xd8"
    assert data[-2:] == b"\xff\xd9"
    place = 2
    while data[place + 1] not in (0xC0, 0xC1, 0xC2):
        place += 2 + int(struct.unpack_from(">H", data, place + 2)[0])
    height, width = struct.unpack_from(">HH", data, place + 5)
    return width, height


def _size_of_webp(data: bytes) -> tuple[int, int]:
    assert (data[:4], data[8:12]) == (b"RIFF", b"WEBP")
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    assert kind == b"VP8X"
    return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")


def decode_png(data: bytes) -> tuple[int, list[bytes]]:
    """Channels, and the rows' bytes, of a PNG with 8 bits a channel and no interlace."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks = list(_chunks(data))
    width, height, depth, kind, _, _, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (chunks[0][0], chunks[-1][0], depth, interlace) == (b"IHDR", b"IEND", 8, 0)
    channels = {0: 1, 2: 3, 6: 4}[kind]
    raw = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    stride = width * channels
    assert len(raw) == height * (stride + 1)
    above = bytes(stride)
    rows = []
    for start in range(0, len(raw), stride + 1):
        above = _unfiltered(raw[start], raw[start + 1 : start + 1 + stride], above, channels)
        rows.append(above)
    return channels, rows


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        name, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert zlib.crc32(name + body) == struct.unpack_from(">I", data, place + 8 + length)[0]
        yield name, body
        place += length + 12


def _unfiltered(kind: int, row: bytes, above: bytes, step: int) -> bytes:
    out = bytearray(row)
    for n in range(len(out)):
        left = out[n - step] if n >= step else 0
        corner = above[n - step] if n >= step else 0
        guess = (0, left, above[n], (left + above[n]) // 2, _paeth(left, above[n], corner))[kind]
        out[n] = (out[n] + guess) & 255
    return bytes(out)


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))


# Video ----------------------------------------------------------------------------------------------------------------

SLICE, IDR, SPS, PPS = 1, 5, 7, 8


def check_access_unit(data: bytes, header: dict[str, Any]) -> None:
    """One access unit in Annex B: keyframes bring SPS and PPS, nothing waits for a later frame."""
    units = nals(data)
    kinds = [unit[0] & 31 for unit in units]
    assert header["keyframe"] == (IDR in kinds)
    assert not header["keyframe"] or {SPS, PPS} <= set(kinds), "keyframes carry SPS and PPS"
    assert header["keyframe"] or SLICE in kinds
    for unit, kind in zip(units, kinds, strict=True):
        if kind in (SLICE, IDR):
            bits = Bits(unit[1:])
            bits.golomb()
            assert bits.golomb() % 5 in (0, 2), "P or I: no B-frames"
        elif kind == SPS:
            assert header["codec"] == f"avc1.{unit[1:4].hex()}", "the codec that the stream itself names"
            assert reorders(unit) == 0, "max_num_reorder_frames"


def nals(data: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream."""
    assert data.startswith((b"\0\0\1", b"\0\0\0\1"))
    return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:]]


class Bits:
    """Reads a NAL unit's bits, without its emulation prevention. Source: ITU-T H.264, 7.2 and 9.1."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._place = 0

    def take(self, count: int) -> int:
        self._place += count
        return int(self._bits[self._place - count : self._place] or "0", 2)

    def golomb(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def reorders(sps: bytes) -> int:
    """`max_num_reorder_frames` of an SPS. Source: ITU-T H.264, 7.3.2.1.1 and E.1.1."""
    bits = Bits(sps[4:])
    bits.golomb()
    if sps[1] in (100, 110, 122, 244):
        if bits.golomb() == 3:
            bits.take(1)
        bits.golomb(), bits.golomb(), bits.take(1)
        assert not bits.take(1), "no scaling matrix"
    bits.golomb()
    if bits.golomb() == 0:
        bits.golomb()
    bits.golomb(), bits.take(1), bits.golomb(), bits.golomb()
    if not bits.take(1):
        bits.take(1)
    bits.take(1)
    if bits.take(1):
        [bits.golomb() for _ in range(4)]
    assert bits.take(1), "VUI is there, to say it"
    if bits.take(1) and bits.take(8) == 255:
        bits.take(32)
    if bits.take(1):
        bits.take(1)
    if bits.take(1):
        bits.take(4)
        if bits.take(1):
            bits.take(24)
    if bits.take(1):
        bits.golomb(), bits.golomb()
    if bits.take(1):
        bits.take(65)
    assert not bits.take(2), "no buffering model"
    bits.take(1)
    assert bits.take(1), "the restriction is there"
    bits.take(1)
    [bits.golomb() for _ in range(4)]
    return bits.golomb()
