"""For tests of what publishes and of what shows it: pictures that are known, encoders and sockets of memory alone, and
what H.264 says of itself."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
from websockets.asyncio.server import ServerConnection, serve

from .benchmark.content import FRAMES, render
from .encoders.bitstream import IDR, PPS, SPS, nal_types, sequence_parameters, split_nal_units
from .encoders.video import import_av
from .protocol import header_for, pack_binary_message
from .sources import BaseFrameSource
from .types import EncodedKind, EncodedPayload, Pixels, RawFrame

__all__ = [
    "FakeEncoder",
    "FakeWebSocket",
    "SyntheticFrameSource",
    "decode_annexb",
    "expected_quadrant_color",
    "gen_fixtures",
    "h264_sps_reorder_info",
    "has_sps_pps_idr",
    "loopback_server",
    "nal_types",
    "parse_nal_units",
    "render_pattern",
    "render_test_pattern",
    "starts_with_start_code",
]

_COLORS = ((220, 40, 40), (40, 200, 60), (50, 70, 230), (230, 210, 50), (120, 40, 180), (40, 190, 200))
_END = object()


# Pictures -------------------------------------------------------------------------------------------------------------


def expected_quadrant_color(seq: int, quadrant: int) -> tuple[int, int, int]:
    """The RGB of the *quadrant* of `render_test_pattern`: 0 to 3, of the upper half first, from the left."""
    return _COLORS[(seq + quadrant) % len(_COLORS)]


def render_test_pattern(seq: int, width: int, height: int) -> Pixels:
    """``(height, width, 3)``: four flat quadrants, of other colours in each of six frames. Lossy codecs keep them
    within a few values of 255, but along the edges."""
    frame = np.empty((height, width, 3), np.uint8)
    rows, columns = (slice(height // 2), slice(height // 2, None)), (slice(width // 2), slice(width // 2, None))
    for quadrant in range(4):
        frame[rows[quadrant // 2], columns[quadrant % 2]] = expected_quadrant_color(seq, quadrant)
    return frame


def render_pattern(name: str, seq: int, width: int, height: int) -> Pixels:
    """Frame *seq* of ``test_card``, which is `render_test_pattern`, or of what the benchmark is measured with:
    ``gradient``, ``surface`` and others, 128x32 pixels or more. Don't change it. Raises `ValueError` for another."""
    if name == "test_card":
        return render_test_pattern(seq, width, height)
    return render(name, width, height)[seq % FRAMES]


class SyntheticFrameSource(BaseFrameSource):
    """A source of `render_pattern`."""

    def __init__(self, *, pattern: str = "test_card", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pattern = pattern

    def render(self, seq: int, t_us: int) -> Pixels:
        return render_pattern(self.pattern, seq, *self.current_size)


# Fakes ----------------------------------------------------------------------------------------------------------------


class FakeEncoder:
    """An `EncoderBackend` whose payloads say in words what they are; of *kind* ``video`` each *keyframe_interval* th is
    a keyframe. Other settings of an encoder are taken and ignored."""

    def __init__(self, *, kind: EncodedKind = "video", keyframe_interval: int = 30, **_: Any) -> None:
        if kind not in get_args(EncodedKind):
            raise ValueError(f"kind is one of {', '.join(get_args(EncodedKind))}, not {kind!r}")
        self.kind, self.keyframe_interval = kind, keyframe_interval
        self.encoded = 0
        """Frames since it was made, or flushed."""
        self.closed = False

    def encode(self, frame: RawFrame, *, force_keyframe: bool = False) -> list[EncodedPayload]:
        keyframe = self.kind == "image" or force_keyframe or self.encoded % self.keyframe_interval == 0
        self.encoded += 1
        return [self._payload(frame, "key" if keyframe else "delta", keyframe)]

    def encode_still(self, frame: RawFrame) -> list[EncodedPayload]:
        return [self._payload(frame, "still", True)]

    def flush(self) -> list[EncodedPayload]:
        self.encoded = 0
        return []

    def close(self) -> None:
        self.closed = True

    def _payload(self, frame: RawFrame, word: str, keyframe: bool) -> EncodedPayload:
        return EncodedPayload(
            seq=frame.seq,
            kind=self.kind,
            timestamp_us=frame.timestamp_us,
            payload=f"{word} {frame.seq}".encode(),
            width=frame.width,
            height=frame.height,
            mime="image/jpeg" if self.kind == "image" else None,
            codec=None if self.kind == "image" else "avc1.42c01f",
            keyframe=keyframe,
            pixel_ratio=frame.pixel_ratio,
            color=frame.color,
        )


class FakeWebSocket:
    """One end of a connection to nobody: `sent` is what was sent, and what is `inject`\\ ed comes by ``async for``,
    until it is closed."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self._came: asyncio.Queue[Any] = asyncio.Queue()

    async def send(self, data: str | bytes) -> None:
        self.sent.append(data)

    def inject(self, message: str | bytes) -> None:
        """Have *message* come."""
        self._came.put_nowait(message)

    def close(self) -> None:
        """End what comes, after all that was injected."""
        self._came.put_nowait(_END)

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        while (message := await self._came.get()) is not _END:
            yield message


@asynccontextmanager
async def loopback_server(
    handler: Callable[[ServerConnection], Awaitable[None]], *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[tuple[str, int]]:
    """A WebSocket server, of which *handler* serves each connection; where it listens: host and port, any free one for
    0."""
    async with serve(handler, host, port) as server:
        yield host, next(iter(server.sockets)).getsockname()[1]


# H.264 ----------------------------------------------------------------------------------------------------------------


def parse_nal_units(annexb: bytes) -> list[tuple[int, bytes]]:
    """The NAL units of a byte stream: the type of each, and its bytes without the start code."""
    return [(unit[0] & 31, unit) for unit in split_nal_units(annexb) if unit]


def has_sps_pps_idr(annexb: bytes) -> bool:
    """Whether a decoder can begin here: parameter sets and an IDR."""
    return {SPS, PPS, IDR} <= set(nal_types(annexb))


def starts_with_start_code(data: bytes) -> bool:
    """Whether *data* is Annex B, and has no lengths in front of its units as in an MP4."""
    return data.startswith((b"\0\0\1", b"\0\0\0\1"))


def h264_sps_reorder_info(annexb: bytes) -> dict[str, int | bool | None]:
    """What the first SPS says of frames that are shown in another order than they come in: with
    ``max_num_reorder_frames`` 0 a decoder shows each at once, without it (None) it may hold back many. Raises
    `ValueError` where there is no SPS."""
    sps = sequence_parameters(annexb)
    return {
        "profile_idc": sps.profile_idc,
        "level_idc": sps.level_idc,
        "vui_present": sps.full_range is not None or sps.max_num_reorder_frames is not None,
        "bitstream_restriction_flag": sps.max_num_reorder_frames is not None,
        "max_num_reorder_frames": sps.max_num_reorder_frames,
        "max_dec_frame_buffering": sps.max_dec_frame_buffering,
    }


def decode_annexb(data: bytes) -> list[Any]:
    """The frames of a byte stream, as PyAV's ``VideoFrame``. Raises `ImportError` that names the extra without it."""
    av = import_av()
    decoder = av.CodecContext.create("h264", "r")
    packets = [*decoder.parse(data), *decoder.parse(b"")]
    return [frame for packet in [*packets, None] for frame in decoder.decode(packet)]


# The wire -------------------------------------------------------------------------------------------------------------


def gen_fixtures(out_dir: str | os.PathLike[str]) -> list[Path]:
    """Write binary messages for other implementations to read: ``<name>.bin``, and beside it ``<name>.json`` with
    ``header`` and ``payload_hex``. The files, which lie in *out_dir*."""
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    frame = RawFrame(7, 64, 48, 123_456, "rgb24", "cpu", render_test_pattern(7, 64, 48))
    image, video = FakeEncoder(kind="image"), FakeEncoder()
    payloads = {"image": image.encode(frame), "key": video.encode(frame), "delta": video.encode(frame)}
    written = []
    for name, (payload,) in payloads.items():
        header = header_for(payload)
        binary, text = folder / f"{name}.bin", folder / f"{name}.json"
        binary.write_bytes(pack_binary_message(header, payload.payload))
        text.write_text(json.dumps({"header": header, "payload_hex": payload.payload.hex()}, indent=1) + "\n", "utf-8")
        written += [binary, text]
    return written
