"""From `publish` to a message ready to be sent, compared with the bare calls that this requires."""

from __future__ import annotations

import asyncio
import ctypes
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
from isal import isal_zlib

from .._core.policy.bandwidth import QUANTIZERS
from .._core.session import ViewerSession
from .._core.viewer import Viewer
from .._frames.damage import tiles_that_differ
from .._hub.viewer import ViewerConnection, viewer_numbers
from .._system.processors import usable_processors
from .._testing.extras import extra
from ..display import Display
from ..encoders.base import video_encoder_for
from ..limits import Limits
from ..protocol import unpack_binary_message
from ..types import EncodedPayload, Message, Pixels, RawFrame, VideoFormat
from .cases import FULL_HD
from .content import VIDEO_CONTENT, Film
from .endtoend import serve
from .rows import Figures, Progress, Row, at_least, at_most, median, ratio
from .video import decoded, psnr

_GROUP = "from publish to a message, 1080p"
_VIDEO_GROUP = "from a frame to its access unit, 1080p"
_QUALITY = 78
QP = QUANTIZERS[1]
_LEAST_DB = 40


def measure(progress: Progress, *, quick: bool, content: str = "terrain") -> list[Row]:
    """Copying, comparing and encoding whole 1080p frames of *content*, each alternating with the bare call."""
    times = 20 if quick else 100
    frames = [np.array(Film(content, "full", *FULL_HD).frame(number)) for number in range(8)]
    rows: list[Row] = []
    progress.add(5)
    progress.step("publish beside a copy")
    rows += _publish(frames, times)
    progress.step("damage of nothing beside memcmp")
    rows.append(_unchanged(frames[0], times))
    progress.step("from stored to ready, beside the JPEG encoder")
    rows += _ready(frames, times, "jpeg", _QUALITY, _bare_jpeg)
    progress.step("from stored to ready, beside the PNG encoder")
    rows += _ready(frames, times // 2, "png", "lossless", _bare_png)
    progress.step("the H.264 encoder beside PyAV")
    rows.append(_video(VIDEO_CONTENT, times))
    return rows


# Publishing -----------------------------------------------------------------------------------------------------------


def _publish(frames: Sequence[Pixels], times: int) -> Iterator[Row]:
    """Rows of `publish` beside copies into two buffers in turn: one holds the newest frame, which has to stay."""
    targets = np.empty_like(frames[0]), np.empty_like(frames[0])

    def copy(number: int) -> None:
        np.copyto(targets[number % 2], frames[(number + 4) % 8])  # which no cache holds, as for `publish`

    for name, own_frames, looks, limit in (
        ("nobody looks", True, False, 1.2),
        ("nobody looks, own_frames=False", False, False, 0.05),
        ("one slow viewer", True, True, 1.2),
    ):
        with serve(FULL_HD, own_frames=own_frames) as display, ExitStack() as viewers:
            if looks:
                viewers.enter_context(_meter(display, ["rfb/tiles"], lag=0.05))
            for frame in frames:  # so that there are buffers, and the viewer's window is full
                display.publish(frame)
            ours, bare = _in_turn(times, _publishes(display, frames), copy)
        yield _row(f"publish(), every frame new, {name}", ours, bare, "np.copyto", limit)


def _publishes(display: Display, frames: Sequence[Pixels]) -> Callable[[int], None]:
    return lambda number: display.publish(frames[number % 8])


def _unchanged(frame: Pixels, times: int) -> Row:
    same = frame.copy()
    memcmp = ctypes.CDLL(None).memcmp
    memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    ours, bare = _in_turn(
        times,
        lambda n: tiles_that_differ(frame, same),
        lambda n: memcmp(frame.ctypes.data, same.ctypes.data, frame.nbytes),
    )
    return _row("damage of an unchanged frame", ours, bare, "memcmp", 2)


# Encoding -------------------------------------------------------------------------------------------------------------


def _ready(
    frames: Sequence[Pixels], times: int, name: str, quality: int | str, bare: Callable[[Pixels], object]
) -> list[Row]:
    """Rows for a base viewer, which gets whole pictures, and for one with tiles, which gets stripes."""
    rows = []
    for viewer, formats in (("whole", []), ("in stripes", ["rfb/tiles"])):
        with serve(FULL_HD, quality=quality, still_after=None) as display, _meter(display, formats) as meter:
            meter.publish(frames[1])
            ours, alone = _in_turn(
                times, lambda n: None, lambda n: bare(frames[-n % 8]), meter=lambda n: meter.publish(frames[-n % 8])
            )
        rows.append(_row(f"stored to ready, {name}, {viewer}", ours, alone, f"the bare {name} encoder", 1.15))
    return rows


def _bare_jpeg(pixels: Pixels) -> None:
    extra("simplejpeg").encode_jpeg(pixels, _QUALITY, "RGB", "420")


def _bare_png(pixels: Pixels) -> None:
    rows = pixels.reshape(len(pixels), -1)
    isal_zlib.compress(np.subtract(rows[1:], rows[:-1]), 1)


# Video ----------------------------------------------------------------------------------------------------------------


def _video(content: str, times: int) -> Row:
    """Frames of *content* through the shared encoder, and through the calls of PyAV that it requires."""
    film, (width, height) = Film(content, "full", *FULL_HD, 8), FULL_HD
    encoder = video_encoder_for(VideoFormat("h264", "420"), width=width, height=height, fps=60, quality=QP)
    bare, tape = BarePyAV(width, height), list[EncodedPayload]()

    def encode(number: int) -> None:
        time_us = number * 1_000_000 // 60
        tape.extend(encoder.encode(RawFrame(number, width, height, time_us, "rgb24", "cpu", film.frame(number))))

    ours, alone = _in_turn(times, encode, lambda number: bare.encode(film.frame(number), number))
    encoder.close()
    shown = psnr((picture(), film.frame(number)) for number, picture in enumerate(decoded(tape[:20])))
    row = _row(f"H.264 4:2:0, QP {QP}, {content}", ours, alone, "PyAV, converting and encoding", 1.15, _VIDEO_GROUP)
    figures = row.figures | {"PSNR_dB": shown, "bytes": sum(len(one.payload) for one in tape[1:]) / len(tape[1:])}
    held = row.ok and at_least(shown, _LEAST_DB)
    return Row(row.group, row.name, figures, f"{row.wanted}, PSNR ≥ {_LEAST_DB}", held)


class BarePyAV:
    """libx264 with the settings of shared encoders."""

    def __init__(self, width: int, height: int) -> None:
        av = extra("av")
        self._of_numpy = av.VideoFrame.from_numpy_buffer
        self._reformat = av.video.reformatter.VideoReformatter().reformat
        self._how: dict[str, Any] = {
            **{"format": "yuv420p", "dst_colorspace": 5, "dst_color_range": 1},
            **{"interpolation": av.video.reformatter.Interpolation.AREA, "threads": _threads()},
        }
        self._codec = av.CodecContext.create("libx264", "w")
        self._codec.width, self._codec.height, self._codec.pix_fmt = width, height, "yuv420p"
        self._codec.time_base, self._codec.framerate = Fraction(1, 60), 60
        self._codec.thread_count, self._codec.thread_type = _threads(), "SLICE"
        parameters = "keyint=infinite:scenecut=0:bframes=0:aud=0"
        self._codec.options = {
            **{"preset": "ultrafast", "tune": "zerolatency", "qp": str(QP)},
            **{"forced-idr": "1", "x264-params": parameters},
        }

    def encode(self, pixels: Pixels, number: int) -> bytes:
        picture = self._reformat(self._of_numpy(pixels, "rgb24"), **self._how)
        picture.pts = number
        return b"".join(map(bytes, self._codec.encode(picture)))


def _threads() -> int:
    return min(4, usable_processors())


# A viewer within the process ------------------------------------------------------------------------------------------


class _Meter:
    """A transport that sends nothing: it notes when it gets a payload, and acknowledges it after *lag* seconds."""

    latency = 0.0

    def __init__(self, display: Display, formats: list[str], lag: float) -> None:
        self._display, self._lag = display, lag
        self._ready = threading.Event()
        self._at = 0.0
        self._heard: asyncio.Queue[str] = asyncio.Queue()
        supported = ["image/jpeg", "image/png", *formats]
        hello = {"type": "hello", "supported": supported, "token": display.server.token}
        self._heard.put_nowait(json.dumps(hello))

    def publish(self, frame: Pixels) -> float:
        """Publish *frame* after the last one was sent. Returns the seconds from the end of `publish` to the message."""
        self._ready.clear()
        self._display.publish(frame)
        stored = time.perf_counter()
        assert self._ready.wait(10)
        return self._at - stored

    async def receive(self) -> str:
        return await self._heard.get()

    async def send(self, message: Message) -> None:
        at = time.perf_counter()
        if isinstance(message, str):
            return
        header, _ = unpack_binary_message(b"".join(message))
        ack = json.dumps({"type": "ack", "seq": header["seq"], "draw_ms": 0})
        if self._lag:
            asyncio.get_running_loop().call_later(self._lag, self._heard.put_nowait, ack)
        else:
            self._heard.put_nowait(ack)
        self._at = at
        self._ready.set()

    async def close(self, code: int, reason: str) -> None:
        pass


@contextmanager
def _meter(display: Display, formats: list[str], lag: float = 0.0) -> Iterator[_Meter]:
    """A viewer of *display* inside this process."""
    stream, loop = display._stream, display.server._hub._loop
    meter = _Meter(display, formats, lag)
    session = ViewerSession(stream.core.state, lambda hello: None, time.monotonic(), local=True)

    async def view() -> None:
        await ViewerConnection(Viewer(session, next(viewer_numbers)), meter, stream, Limits()).run()

    viewing = asyncio.run_coroutine_threadsafe(view(), loop)
    try:
        yield meter
    finally:
        viewing.cancel()


# ----------------------------------------------------------------------------------------------------------------------


def _in_turn(
    times: int,
    ours: Callable[[int], object],
    bare: Callable[[int], object],
    meter: Callable[[int], float] | None = None,
) -> tuple[float, float]:
    """Median seconds of both, alternating; *meter* returns its own seconds."""
    a, b = [], []
    for number in range(times):
        started = time.perf_counter()
        ours(number)
        a.append(meter(number) if meter else time.perf_counter() - started)
        started = time.perf_counter()
        bare(number)
        b.append(time.perf_counter() - started)
    return median(a) or 0.0, median(b) or 0.0


def _row(name: str, ours: float, bare: float, call: str, limit: float, group: str = _GROUP) -> Row:
    times = ratio(ours, bare)
    figures: Figures = {"ms": 1000 * ours, "bare_call": call, "bare_ms": 1000 * bare, "ratio": times}
    return Row(group, name, figures, f"≤ {limit:g} × the bare call", at_most(times, limit))
