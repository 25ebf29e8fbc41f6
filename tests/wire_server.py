"""A hub made of the base protocol's page alone: `websockets` and the standard library, nothing of the package.

It shows one picture after the other, as PNG or as H.264 that any decoder takes, and keeps what viewers say.
"""

from __future__ import annotations

import contextlib
import json
import struct
import threading
import time
import zlib
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

Rows = list[bytes]
"""A picture's rows, three bytes a pixel."""


class WireServer:
    """Serves at `url`; `publish` shows a picture to every viewer. A context manager that ends it."""

    def __init__(self, width: int, height: int, *, token: str, video: bool = False) -> None:
        self.size = width, height
        self.heard: list[dict[str, Any]] = []
        self._token = token
        self._video = video
        self._newest: Rows | None = None
        self._viewers: dict[ServerConnection, int] = {}
        """The last seq that each was sent."""
        self._lock = threading.Lock()

    def __enter__(self) -> WireServer:
        self._server = serve(self._welcome, "127.0.0.1", 0, compression=None)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for viewer in tuple(self._viewers):
            viewer.close(1001, "the display was closed")
        self._server.shutdown()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/default"

    def said(self, kind: str) -> list[dict[str, Any]]:
        """What viewers said of this *kind*."""
        return [message for message in self.heard if message["type"] == kind]

    def publish(self, rows: Rows) -> None:
        with self._lock:
            self._newest = rows
            for viewer in self._viewers:
                self._send(viewer)

    def _welcome(self, socket: ServerConnection) -> None:
        hello = json.loads(socket.recv())
        self.heard.append(hello)
        wanted = "webcodecs/h264-annexb" if self._video else "image/png"
        if hello["type"] != "hello":
            return socket.close(4400, "the first message is hello")
        if hello.get("token") != self._token:
            return socket.close(4401, "the token is another")
        if wanted not in hello["supported"]:
            return socket.close(4406, f"the viewer does not take {wanted}")
        kind = {"transport": "webcodecs", "codec": CODEC} if self._video else {"transport": "image"}
        size = {"width": self.size[0], "height": self.size[1]}
        socket.send(json.dumps({"type": "config", "coords": "frame-pixels", **kind, **size}))
        with self._lock:
            self._viewers[socket] = 0
            self._send(socket)
        for text in socket:
            self.heard.append(json.loads(text))
            if self.heard[-1]["type"] in ("request_keyframe", "decoder_reset"):
                with self._lock:
                    self._send(socket)
        del self._viewers[socket]

    def _send(self, socket: ServerConnection) -> None:
        if self._newest is None:
            return
        self._viewers[socket] += 1
        seq = self._viewers[socket]
        header = {"seq": seq, "timestamp_us": time.monotonic_ns() // 1000}
        header |= {"width": self.size[0], "height": self.size[1]}
        if self._video:
            header |= {"type": "video_chunk", "codec": CODEC, "bitstream": "annexb", "keyframe": True}
            payload = h264_of(self._newest, seq)
        else:
            header |= {"type": "image_frame", "mime": "image/png"}
            payload = png_of(self._newest)
        text = json.dumps(header).encode()
        with contextlib.suppress(ConnectionClosed):
            socket.send(struct.pack("<I", len(text)) + text + payload)


def png_of(rows: Rows) -> bytes:
    """The picture as PNG, each row as it is."""
    head = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


# H.264 in samples that are not compressed. Source: ITU-T H.264, 7.3 and E.1.1 -----------------------------------------

CODEC = "avc1.42c01e"


class Bits:
    """Writes bits, and ends as NAL units do."""

    def __init__(self) -> None:
        self._bits = ""

    def put(self, value: int, count: int) -> Bits:
        self._bits += f"{value:0{count}b}"
        return self

    def golomb(self, *values: int) -> Bits:
        for value in values:
            self.put(value + 1, 2 * (value + 1).bit_length() - 1)
        return self

    def samples(self, data: bytes) -> Bits:
        """From the next whole byte on."""
        self._bits += "0" * (-len(self._bits) % 8) + "".join(f"{byte:08b}" for byte in data)
        return self

    def nal(self, head: int) -> bytes:
        bits = self._bits + "1"
        bits += "0" * (-len(bits) % 8)
        out = bytearray()
        for byte in int(bits, 2).to_bytes(len(bits) // 8, "big"):
            if byte <= 3 and out[-2:] == b"\0\0":
                out.append(3)
            out.append(byte)
        return b"\0\0\0\1" + bytes([head]) + bytes(out)


def h264_of(rows: Rows, number: int) -> bytes:
    """An access unit of its own, BT.601 in limited range. Sides are multiples of 16."""
    width, height = len(rows[0]) // 3, len(rows)
    sps = Bits().put(0x42C01E, 24).golomb(0, 0, 2, 1).put(0, 1).golomb(width // 16 - 1, height // 16 - 1)
    sps.put(0b110, 3).put(1, 1)  # frames only, direct 8x8, no cropping; VUI:
    sps.put(0b00, 2).put(1, 1).put(5, 3).put(0, 1).put(1, 1).put(6, 8).put(6, 8).put(6, 8)  # colour
    sps.put(0, 5).put(1, 1).put(1, 1).golomb(0, 0, 10, 10, 0, 1)  # nothing is reordered
    pps = Bits().golomb(0, 0).put(0, 2).golomb(0, 0, 0).put(0, 3).golomb(0, 0, 0).put(0b100, 3)
    picture = Bits().golomb(0, 7, 0).put(0, 4).golomb(number % 2).put(0, 2).golomb(0, 1)
    for top in range(0, height, 16):
        for left in range(0, width, 16):
            block = [row[3 * left : 3 * left + 48] for row in rows[top : top + 16]]
            picture.golomb(25).samples(_ycbcr(block))
    return sps.nal(0x67) + pps.nal(0x68) + picture.nal(0x65)


def _ycbcr(block: Rows) -> bytes:
    pixels = [[tuple(row[3 * x : 3 * x + 3]) for x in range(16)] for row in block]
    luma = bytes(round(16 + (65.738 * r + 129.057 * g + 25.064 * b) / 256) for row in pixels for r, g, b in row)
    corners = [pixels[y][x] for y in range(0, 16, 2) for x in range(0, 16, 2)]
    blue = bytes(round(128 + (-37.945 * r - 74.494 * g + 112.439 * b) / 256) for r, g, b in corners)
    red = bytes(round(128 + (112.439 * r - 94.154 * g - 18.285 * b) / 256) for r, g, b in corners)
    return luma + blue + red
