"""Helpers for tests of publishers and viewers: known pictures, in-memory encoders and sockets, and inspection of H.264
streams."""

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

from ._testing.patterns import FRAMES, render
from .encoders.base import VideoEncoderFactory
from .encoders.bitstream import IDR, PPS, SPS, nal_types, sequence_parameters, split_nal_units
from .encoders.pictures import import_av
from .protocol import header_for, pack_binary_message
from .sources import BaseFrameSource
from .types import EncodedKind, EncodedPayload, PixelFormat, Pixels, RawFrame

__all__ = [
    "FakeEncoder",
    "FakeWebSocket",
    "SyntheticFrameSource",
    "check_encoder",
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
    """The RGB colour of a *quadrant* of `render_test_pattern`: 0 and 1 are upper left and right, 2 and 3 lower."""
    return _COLORS[(seq + quadrant) % len(_COLORS)]


def render_test_pattern(seq: int, width: int, height: int) -> Pixels:
    """RGB pixels, ``(height, width, 3)``: four flat quadrants, whose colours differ in each of six frames. Lossy codecs
    keep the colours within a few values of 255, except along the edges."""
    frame = np.empty((height, width, 3), np.uint8)
    rows, columns = (slice(height // 2), slice(height // 2, None)), (slice(width // 2), slice(width // 2, None))
    for quadrant in range(4):
        frame[rows[quadrant // 2], columns[quadrant % 2]] = expected_quadrant_color(seq, quadrant)
    return frame


def render_pattern(name: str, seq: int, width: int, height: int) -> Pixels:
    """Frame *seq* of ``test_card``, which is `render_test_pattern`, or of a pattern of the benchmark: ``gradient``,
    ``surface`` and others, at least 128x32 pixels. Don't modify the result. Raises `ValueError` for an unknown *name*
    or a smaller size."""
    if name == "test_card":
        return render_test_pattern(seq, width, height)
    return render(name, width, height)[seq % FRAMES]


class SyntheticFrameSource(BaseFrameSource):
    """A source of frames from `render_pattern`."""

    def __init__(self, *, pattern: str = "test_card", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pattern = pattern

    def render(self, seq: int, t_us: int) -> Pixels:
        return render_pattern(self.pattern, seq, *self.current_size)


# Fakes ----------------------------------------------------------------------------------------------------------------


class FakeEncoder:
    """An `EncoderBackend` whose payloads are words: ``key``, ``delta`` or ``still`` and the frame's number. With *kind*
    ``video``, one of every *keyframe_interval* frames is a keyframe. Other settings are accepted and ignored."""

    def __init__(self, *, kind: EncodedKind = "video", keyframe_interval: int = 30, **_: Any) -> None:
        if kind not in get_args(EncodedKind):
            raise ValueError(f"kind is one of {', '.join(get_args(EncodedKind))}, not {kind!r}")
        self.kind, self.keyframe_interval = kind, keyframe_interval
        self.encoded = 0
        """Number of frames since it was created or flushed, or encoded a still."""
        self.closed = False

    def encode(self, frame: RawFrame, *, force_keyframe: bool = False) -> list[EncodedPayload]:
        keyframe = self.kind == "image" or force_keyframe or self.encoded % self.keyframe_interval == 0
        self.encoded += 1
        return [self._payload(frame, "key" if keyframe else "delta", keyframe)]

    def encode_still(self, frame: RawFrame) -> list[EncodedPayload]:
        self.encoded = 0
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
    """One end of a connection without a peer: `sent` lists the sent messages; ``async for`` yields those given to
    `inject`, until it is closed."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self._came: asyncio.Queue[Any] = asyncio.Queue()

    async def send(self, data: str | bytes) -> None:
        self.sent.append(data)

    def inject(self, message: str | bytes) -> None:
        """Make *message* arrive."""
        self._came.put_nowait(message)

    def close(self) -> None:
        """End the iteration after all injected messages."""
        self._came.put_nowait(_END)

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        while (message := await self._came.get()) is not _END:
            yield message


@asynccontextmanager
async def loopback_server(
    handler: Callable[[ServerConnection], Awaitable[None]], *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[tuple[str, int]]:
    """Run a WebSocket server whose connections *handler* serves. Yields host and port; *port* 0 means any free one."""
    async with serve(handler, host, port) as server:
        yield host, next(iter(server.sockets)).getsockname()[1]


# H.264 ----------------------------------------------------------------------------------------------------------------


def parse_nal_units(annexb: bytes) -> list[tuple[int, bytes]]:
    """The NAL units of a byte stream, each as its type and its bytes without the start code."""
    return [(unit[0] & 31, unit) for unit in split_nal_units(annexb) if unit]


def has_sps_pps_idr(annexb: bytes) -> bool:
    """True if a decoder can start here: there are parameter sets and an IDR."""
    return {SPS, PPS, IDR} <= set(nal_types(annexb))


def starts_with_start_code(data: bytes) -> bool:
    """True if *data* is Annex B, not length-prefixed as in an MP4."""
    return data.startswith((b"\0\0\1", b"\0\0\0\1"))


def h264_sps_reorder_info(annexb: bytes) -> dict[str, int | bool | None]:
    """The frame reordering that the first SPS declares. With ``max_num_reorder_frames`` 0 a decoder shows each frame at
    once; without it (None) it may hold back many. Raises `ValueError` if there is no SPS."""
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
    """The frames of a byte stream as PyAV's ``VideoFrame``. Without PyAV, raises `ImportError` that names the extra."""
    av = import_av()
    decoder = av.CodecContext.create("h264", "r")
    packets = [*decoder.parse(data), *decoder.parse(b"")]
    return [frame for packet in [*packets, None] for frame in decoder.decode(packet)]


# Encoders -------------------------------------------------------------------------------------------------------------

_DECODERS = {"avc1": "h264", "vp09": "vp9", "av01": "libdav1d"}
"""PyAV's decoders, by the first letters of WebCodecs' codec strings."""


def check_encoder(factory: VideoEncoderFactory, *, decode: bool = True) -> None:
    """Check that *factory*, as for `register_video_encoder`, creates encoders that streams can use.

    Raises `AssertionError` that says what is wrong. With *decode* the pictures are decoded and compared, which needs
    PyAV: without it, `ImportError` names the extra. Checks: a payload for every frame, at once with
    ``pipeline_depth=0``, else after at most that many frames; its fields; keyframes at the start, when forced, after a
    flush and after a still, each of which decodes without earlier payloads; frames of odd sizes, and of every format
    and stride; that a frame may be modified after it was encoded; and `close` in every state.
    """
    if decode:
        import_av()
    _check_close(factory)
    for depth in (0, 2):
        _check_pipeline(_Checked(factory, decode, depth=depth), depth)
    for checked in (
        _Checked(factory, decode),
        _Checked(factory, decode, quality=None),
        _Checked(factory, decode, 33, 17),
    ):
        _check_keyframes(checked)
    _check_formats(_Checked(factory, decode))


class _Checked:
    """An encoder under test."""

    def __init__(
        self,
        factory: VideoEncoderFactory,
        decode: bool,
        width: int = 96,
        height: int = 64,
        *,
        quality: int | None = 16,
        depth: int = 0,
    ) -> None:
        self.size = width, height
        self.encoder = factory(
            width=width,
            height=height,
            fps=30,
            bitrate=2_000_000,
            quality=quality,
            color=None,
            chroma="420",
            pipeline_depth=depth,
        )
        self.given: list[RawFrame] = []
        self._decode = decode

    def frame(self, pixels: Pixels | None = None, pixel_format: PixelFormat = "rgb24") -> RawFrame:
        """The next frame, with a picture of its own unless *pixels* are given."""
        seq = len(self.given)
        data = render_test_pattern(seq, *self.size) if pixels is None else pixels
        self.given.append(RawFrame(seq, *self.size, 33_333 * (seq + 1), pixel_format, "cpu", data))
        return self.given[-1]

    def encode(self, *, force_keyframe: bool = False) -> list[EncodedPayload]:
        """Encode the next frame. Raises `AssertionError` unless there is at least one payload."""
        payloads = self.encoder.encode(self.frame(), force_keyframe=force_keyframe)
        assert payloads, "a frame gave no payload at once, with pipeline_depth=0"
        self.check(payloads, 1)
        return payloads

    def check(self, payloads: list[EncodedPayload], frames: int) -> None:
        """Raise `AssertionError` unless *payloads* belong to the newest *frames* encoded, in order."""
        self.check_fields(payloads)
        times = list(dict.fromkeys(payload.timestamp_us for payload in payloads))
        wanted = [frame.timestamp_us for frame in self.given[len(self.given) - frames :]]
        assert times == wanted, f"frames with the timestamp_us {wanted} gave payloads with {times}"

    def check_fields(self, payloads: list[EncodedPayload]) -> None:
        """Raise `AssertionError` unless the fields of all *payloads* are correct."""
        seqs = {frame.timestamp_us: frame.seq for frame in self.given}
        for payload in payloads:
            assert payload.timestamp_us in seqs, (
                f"a payload has timestamp_us {payload.timestamp_us}, which no frame has"
            )
            assert payload.kind == "video", f"a payload is of kind {payload.kind!r}, not 'video'"
            assert payload.seq == seqs[payload.timestamp_us], (
                f"a payload has seq {payload.seq}, which isn't its frame's"
            )
            size = payload.width, payload.height
            assert size == self.size, f"a payload of a frame of {self.size} pixels says {size}"
            assert payload.payload, "a payload is empty"
            assert payload.codec, "a payload names no codec"
            assert payload.codec[:4] in _DECODERS, f"{payload.codec!r} is no codec string of H.264, VP9 or AV1"

    def check_key(self, payloads: list[EncodedPayload], where: str) -> None:
        """Raise `AssertionError` unless *payloads*, of the newest frame, are a keyframe that decodes alone."""
        assert any(payload.keyframe for payload in payloads), (
            f"the frame {where} is no keyframe, or isn't flagged as one"
        )
        self.check_pictures(payloads, 1)

    def check_pictures(self, payloads: list[EncodedPayload], frames: int) -> None:
        """Raise `AssertionError` unless *payloads* decode to close copies of the newest *frames*."""
        if not self._decode:
            return
        shown = _decode(payloads)
        assert len(shown) == frames, f"{frames} frames decode to {len(shown)}"
        width, height = self.size
        for frame, picture in zip(self.given[len(self.given) - frames :], shown, strict=True):
            wanted = render_test_pattern(frame.seq, width, height).astype(int)
            error = np.abs(picture[:height, :width] - wanted).mean()
            assert error < 20, f"frame {frame.seq} decodes to another picture: {error:.0f} of 255 off on average"


def _check_close(factory: VideoEncoderFactory) -> None:
    fresh, used, flushed = (_Checked(factory, decode=False) for _ in range(3))
    used.encode()
    flushed.encode()
    flushed.encoder.flush()
    for state, checked in {"not used": fresh, "used": used, "flushed": flushed}.items():
        try:
            checked.encoder.close()
            checked.encoder.close()
        except Exception as error:
            raise AssertionError(
                f"close() of an encoder that was {state}, or its second one, raises {error!r}"
            ) from error


def _check_pipeline(checked: _Checked, depth: int) -> None:
    payloads: list[EncodedPayload] = []
    for number in range(1, 7):
        frame = checked.frame()
        payloads += checked.encoder.encode(frame)
        frame.data[:] = 0  # the publisher may reuse it
        checked.check_fields(payloads)
        held = number - len({payload.timestamp_us for payload in payloads})
        assert held <= depth, f"with pipeline_depth={depth} at most {depth} frames are held back, not {held}"
    payloads += checked.encoder.flush()
    checked.check(payloads, 6)
    checked.check_pictures(payloads, 6)
    checked.encoder.close()


def _check_keyframes(checked: _Checked) -> None:
    checked.check_key(checked.encode(), "that is the first")
    checked.encode()
    checked.check_key(checked.encode(force_keyframe=True), "with force_keyframe=True")
    checked.encode()
    held = checked.encoder.flush()
    assert held == [], f"with pipeline_depth=0 a flush gave {len(held)} payloads more"
    checked.check_key(checked.encode(), "after a flush")
    if encode_still := getattr(checked.encoder, "encode_still", None):
        checked.encode()
        payloads = encode_still(checked.frame())
        checked.check(payloads, 1)
        checked.check_key(payloads, "of encode_still")
        checked.check_key(checked.encode(), "after encode_still")
    checked.encoder.close()


def _check_formats(checked: _Checked) -> None:
    width, height = checked.size
    roomy = np.zeros((height + 2, width + 10, 4), np.uint8)
    formats: dict[str, tuple[PixelFormat, Pixels]] = {
        "grey": ("gray8", np.ascontiguousarray(roomy[:height, :width, 0])),
        "RGBA": ("rgba8", np.ascontiguousarray(roomy[:height, :width])),
        "RGB with padded rows": ("rgb24", np.zeros((height, width + 10, 3), np.uint8)[:, :width]),
        "RGB without the A of RGBA": ("rgb24", roomy[:height, :width, :3]),
        "upside down": ("rgb24", np.zeros((height, width, 3), np.uint8)[::-1]),
    }
    for name, (pixel_format, pixels) in formats.items():
        try:
            payloads = checked.encoder.encode(checked.frame(pixels, pixel_format))
        except Exception as error:
            raise AssertionError(f"a frame of {name}, {pixel_format}, is refused: {error}") from error
        checked.check(payloads, 1)
    checked.encoder.close()


def _decode(payloads: list[EncodedPayload]) -> list[Any]:
    """The pictures of *payloads* as RGB, decoded from the first payload on."""
    av = import_av()
    decoder = av.CodecContext.create(_DECODERS[str(payloads[0].codec)[:4]], "r")
    units: dict[int, bytes] = {}
    for payload in payloads:
        units[payload.timestamp_us] = units.get(payload.timestamp_us, b"") + payload.payload
    try:
        frames = [frame for data in units.values() for frame in decoder.decode(av.Packet(data))] + decoder.decode(None)
    except av.FFmpegError as error:
        raise AssertionError(f"{payloads[0].codec} that doesn't decode: {error}") from error
    return [frame.to_ndarray(format="rgb24").astype(int) for frame in frames]


# The wire -------------------------------------------------------------------------------------------------------------


def gen_fixtures(out_dir: str | os.PathLike[str]) -> list[Path]:
    """Write binary messages to *out_dir* for tests of other implementations: ``<name>.bin``, and ``<name>.json`` with
    ``header`` and ``payload_hex``. Returns the paths."""
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
