"""A hub that isn't ours: it knows the wire and says what a test tells it to, video made by PyAV included."""

from __future__ import annotations

import json
import queue
import threading
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from pdum_rfb_widget.protocol import pack_binary_message


class OtherHub:
    """Serves one viewer at a time on a port of its own; `url` is where. A context manager that closes."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        """What the present viewer has said."""
        self._viewers: queue.SimpleQueue[ServerConnection] = queue.SimpleQueue()
        self._viewer: ServerConnection | None = None
        self._seq = 0

    def __enter__(self) -> OtherHub:
        self._server: Server = serve(self._listen, "127.0.0.1", 0, compression=None)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/other"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._viewer:
            self._viewer.close(1001, "the test is over")
        self._server.shutdown()
        self._thread.join()

    def _listen(self, viewer: ServerConnection) -> None:
        heard: list[dict[str, Any]] = []
        try:
            for message in viewer:
                heard.append(json.loads(message))
                if len(heard) == 1:
                    self.heard = heard
                    self._viewers.put(viewer)
        except ConnectionClosed:
            pass

    def greet(self, **config: Any) -> list[str]:
        """Wait for the next viewer's hello, and answer it; what the viewer supports."""
        self._viewer = self._viewers.get(timeout=60)
        self._seq = 0
        self.configure(**config)
        return list(self.heard[0]["supported"])

    def leave(self) -> None:
        """Break off, as if the link were lost; the viewer comes again."""
        assert self._viewer
        self._viewer.close(1011, "lost")

    def configure(self, **config: Any) -> None:
        base = {"type": "config", "transport": "webcodecs", "coords": "frame-pixels", "width": 64, "height": 64}
        self.say(**base | config)

    def say(self, **message: Any) -> None:
        assert self._viewer
        self._viewer.send(json.dumps(message))

    def send(self, payload: bytes, **header: Any) -> int:
        """Send a payload under the next seq; that seq."""
        assert self._viewer
        self._seq += 1
        fields = {"seq": self._seq, "timestamp_us": 16_667 * self._seq} | header
        self._viewer.send(pack_binary_message(fields, payload))
        return self._seq

    def skip(self) -> None:
        """A payload that is lost on its way."""
        self._seq += 1

    def said(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.heard if message["type"] == kind]

    @property
    def acked(self) -> list[int]:
        return [message["seq"] for message in self.said("ack")]


class Film:
    """An encoder of the test's own; `chunk` gives the header and the bytes of the next frame."""

    def __init__(self, kind: str, width: int, height: int, *, primaries: int = 1) -> None:
        name, self._format, self.codec, self.bitstream, options = KINDS[kind]
        self.width, self.height = width, height
        context = av.CodecContext.create(name, "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height = width + width % 2, height + height % 2
        context.pix_fmt = self._format
        context.time_base, context.framerate = Fraction(1, 60), Fraction(60)
        context.gop_size, context.max_b_frames = 10_000, 0
        rgb = self._format == "rgb24"
        context.colorspace = 0 if rgb else Colorspace.ITU601
        context.color_range = ColorRange.JPEG if rgb else ColorRange.MPEG
        context.color_primaries, context.color_trc = primaries, 13
        context.options = options
        self._context = context
        self._count = 0

    def chunk(self, frame: npt.NDArray[np.uint8], *, keyframe: bool = False) -> tuple[dict[str, Any], bytes]:
        padded = np.pad(frame, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        if self._format != "rgb24":
            limited = {"dst_colorspace": Colorspace.ITU601, "dst_color_range": ColorRange.MPEG}
            picture = picture.reformat(format=self._format, **limited)
        picture.pts = self._count
        picture.pict_type = 1 if keyframe or self._count == 0 else 0  # type: ignore[assignment]
        self._count += 1
        packets = self._context.encode(picture) or self._context.encode(None)
        (packet,) = packets
        header = {
            "type": "video_chunk",
            "width": self.width,
            "height": self.height,
            "codec": self.codec,
            "bitstream": self.bitstream,
            "keyframe": packet.is_keyframe,
        }
        return header, bytes(packet)


_X264 = {"preset": "ultrafast", "tune": "zerolatency", "forced-idr": "1", "x264-params": "annexb=1:repeat-headers=1"}
_VP9 = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "crf": "4", "b": "0"}
KINDS: dict[str, tuple[str, str, str, str, dict[str, str]]] = {
    "h264": ("libx264", "yuv420p", "avc1.42c01f", "annexb", _X264 | {"qp": "6"}),
    "h264-444": ("libx264", "yuv444p", "avc1.f4001f", "annexb", _X264 | {"qp": "6"}),
    "h264-rgb": ("libx264rgb", "rgb24", "avc1.f4001f", "annexb", _X264 | {"qp": "0"}),
    "vp9": ("libvpx-vp9", "yuv420p", "vp09.00.31.08", "vp9", _VP9),
    "av1": ("libsvtav1", "yuv420p", "av01.0.05M.08", "av1", {"preset": "12", "crf": "15"}),
}
