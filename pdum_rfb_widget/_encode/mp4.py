"""Writing of MP4 files: frames of any time and size become H.264, by PyAV. It has no thread and no clock."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._system.processors import usable_processors
from ..encoders.pictures import color_tags, import_av, picture_of
from ..types import ColorSpace, Pixels, check_int

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
"""x264's presets, from the fastest to the one with the smallest files."""

_CRF = 18
"""The default quality: where x264's users see no loss."""

_TICKS = 10_000
"""Ticks a second of the film's clock."""

_LONGEST = 24 * 3600 * _TICKS
"""Most ticks that one frame may last: FFmpeg has 31 bits, two and a half days. Longer ones are encoded again."""

_MUXER = {
    # Fragments during writing, so that after a crash or on a full disk the film still plays. At the end it gets the
    # ordinary index, with which more players can seek.
    "movflags": "hybrid_fragmented+default_base_moof",
    "frag_duration": "1000000",  # microseconds: what a crash loses, besides the frames that x264 holds
    "flush_packets": "1",  # a fragment is in the file when the muxer returns
}


@dataclass(frozen=True, slots=True)
class Mp4Settings:
    """The settings of the encoder. Raises `TypeError` or `ValueError` that names what was given and what is wanted."""

    fps: int
    bitrate: int | None
    crf: int | None
    preset: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", check_int("fps", self.fps, 1, 240))
        if self.bitrate is not None and self.crf is not None:
            raise ValueError(f"a film has a bitrate or a crf, not both: {self.bitrate!r} and {self.crf!r}")
        if self.bitrate is not None:
            object.__setattr__(self, "bitrate", check_int("bitrate", self.bitrate, 50_000, 1_000_000_000))
        if self.crf is not None:
            object.__setattr__(self, "crf", check_int("crf", self.crf, 0, 51))
        if self.preset not in PRESETS:
            raise ValueError(f"preset is one of {', '.join(PRESETS)}, not {self.preset!r}")


class Mp4Writer:
    """A file, and the encoder and muxer that the first frame opens for its size and colour. Used by one thread.

    With *second_sizes* the film has the size of its second frame, if there is one.
    """

    def __init__(self, path: Path, settings: Mp4Settings, second_sizes: bool = False) -> None:
        self.file = _File(path)
        self._settings = settings
        self._size = (0, 0)
        self._first_us = 0
        self._second_sizes = second_sizes
        self._waiting: tuple[Pixels, int, ColorSpace | None] | None = None  # the first frame, for the second's size
        self._shown: VideoFrame | None = None
        self._packet: Packet[VideoStream] | None = None  # the newest, which waits for its duration
        self._tick = -1
        self._finished = False

    def add(self, pixels: Pixels, time_us: int, color: ColorSpace | None = None) -> None:
        """Shows *pixels* from *time_us* on; the first frame starts the film."""
        if self._second_sizes:
            self._second_sizes = False
            self._waiting = pixels.copy(), time_us, color
            return
        if self._tick < 0:
            self._begin(pixels, time_us, color)
        self._show(pixels, time_us)

    def _begin(self, pixels: Pixels, time_us: int, color: ColorSpace | None) -> None:
        """Opens the film in the size of *pixels*, and shows the frame that waits for that, if there is one."""
        first, self._waiting = self._waiting, None
        self._open(pixels, first[1] if first else time_us, first[2] if first else color)
        if first:
            self._show(*first[:2])

    def _show(self, pixels: Pixels, time_us: int) -> None:
        # Frames of two threads may be almost simultaneous; the format wants them one after the other.
        tick = max(self._tick + 1, self._tick_of(time_us))
        self._rest_until(tick)
        self._shown = _picture(pixels, *self._size)
        self._encode(tick)

    def finish(self, time_us: int) -> None:
        """Shows the last frame until *time_us*, or for one frame of `fps` if that is longer, and ends the film."""
        if self._waiting:
            self._begin(*self._waiting)
        self._finished = True
        end = max(self._tick_of(time_us), self._tick + _TICKS // self._settings.fps)
        self._rest_until(end)
        self._mux(self._stream.encode(None))
        if self._packet:
            self._mux_packet(self._packet, end)
        self._container.close()

    def close(self) -> None:
        """Closes the file in any state: a film that is not finished ends with what could be encoded."""
        if self._tick >= 0 and not self._finished:
            with contextlib.suppress(Exception):  # the caller knows what failed
                self.finish(0)
        self.file.close()

    def _open(self, pixels: Pixels, time_us: int, color: ColorSpace | None) -> None:
        settings = self._settings
        height, width = pixels.shape[:2]
        self._size = _even(width), _even(height)
        self._first_us = time_us
        self.file.begin()
        self._container = import_av().open(self.file, "w", format="mp4", options=_MUXER)
        self._stream = self._container.add_stream("libx264", settings.fps, {"preset": settings.preset})
        self._stream.time_base = Fraction(1, _TICKS)
        context = self._stream.codec_context
        context.width, context.height = self._size
        context.pix_fmt = "yuv420p"
        context.thread_type = "AUTO"  # PyAV's default, slices, takes 6 % longer
        context.thread_count = min(8, usable_processors() + 1)  # each holds a frame
        context.time_base = Fraction(1, _TICKS)
        context.max_b_frames = 0  # then packets come in the order of the frames, and each ends the one before
        if settings.bitrate is None:
            context.options["crf"] = str(_CRF if settings.crf is None else settings.crf)
        else:
            context.bit_rate = settings.bitrate
        # BT.601 in files too: BT.709 is 12 of 255 off in Chromium and Firefox where this is 2, and readers that ignore
        # tags, swscale for example, take everything for BT.601.
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = color_tags(color)
        self._container.start_encoding()
        self.file.mark(head=True)

    def _rest_until(self, tick: int) -> None:
        """Encodes the shown frame as often as it takes, so that no frame before *tick* lasts too long."""
        while self._shown and tick - self._tick > _LONGEST:
            self._encode(self._tick + _LONGEST)

    def _encode(self, tick: int) -> None:
        assert self._shown
        self._tick = self._shown.pts = tick
        self._shown.time_base = Fraction(1, _TICKS)
        self._mux(self._stream.encode(self._shown))

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        for packet in packets:
            if self._packet:
                assert packet.pts is not None
                self._mux_packet(self._packet, packet.pts)
            self._packet = packet

    def _mux_packet(self, packet: Packet[VideoStream], end: int) -> None:
        assert packet.pts is not None
        packet.duration = end - packet.pts
        self._container.mux(packet)
        self.file.mark()

    def _tick_of(self, time_us: int) -> int:
        return round((time_us - self._first_us) * _TICKS / 1_000_000)


# Frames ---------------------------------------------------------------------------------------------------------------


def _even(side: int) -> int:
    return side + side % 2


def _picture(pixels: Pixels, width: int, height: int) -> VideoFrame:
    """Returns *pixels* as 4:2:0, BT.601, limited range: as large as fits into *width* x *height*, centred on black."""
    rows, columns = pixels.shape[:2]
    if (_even(columns), _even(rows)) == (width, height):
        return _converted(pixels, width, height)
    scale = min(width / columns, height / rows)
    fitted = _converted(pixels, 2 * max(1, round(columns * scale / 2)), 2 * max(1, round(rows * scale / 2)))
    picture = _converted(np.zeros((height, width), np.uint8), width, height)
    for source, target in zip(_planes(fitted), _planes(picture), strict=True):
        top, left = ((room - size) // 2 for room, size in zip(target.shape, source.shape, strict=True))
        target[top : top + source.shape[0], left : left + source.shape[1]] = source
    return picture


def _converted(pixels: Pixels, width: int, height: int) -> VideoFrame:
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    rows, columns = pixels.shape[:2]
    if rows % 2 or columns % 2:  # repeat the last row and column: scaling by a pixel would blur the whole frame
        pixels = np.pad(pixels, [(0, rows % 2), (0, columns % 2), (0, 0)][: pixels.ndim], mode="edge")
    source = "gray" if pixels.ndim == 2 else {3: "rgb24", 4: "rgba"}[pixels.shape[2]]
    return picture_of(pixels, source).reformat(
        width,
        height,
        "yuv420p",
        src_color_range=ColorRange.JPEG,
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.AREA,
    )


def _planes(picture: VideoFrame) -> list[Pixels]:
    """Returns Y, U and V of *picture*, sharing its memory."""
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in picture.planes
    ]


# The file -------------------------------------------------------------------------------------------------------------


class _File:
    """The file that the muxer writes to. The first bytes empty it, and it is deleted if no frame gets into it.

    After an error it takes nothing more, so that its head, which the muxer rewrites at the end, stays that of a
    fragmented film. Data after the last whole fragment is cut off: players fail on a partial one.
    """

    def __init__(self, path: Path) -> None:
        self.failure: OSError | None = None
        self._path = path
        try:
            self._raw = FileIO(path, "w", opener=_open_as_it_is)
        except FileNotFoundError as error:
            missing = f"there is no folder {str(path.parent)!r} to record into"
            raise FileNotFoundError(error.errno, missing, str(path)) from None
        self._head = 0
        self._whole = 0

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest and not self.failure:
            try:
                rest = rest[os.write(self._raw.fileno(), rest) :]  # a disk that is nearly full takes a part
            except OSError as error:
                words = f"the recording broke off, what was written before plays: {error.strerror}"
                self.failure = OSError(error.errno, words, str(self._path))
                raise self.failure from None
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    @property
    def closed(self) -> bool:
        # PyAV asks before it writes the end of an abandoned film: FFmpeg crashes there when there is no frame.
        return self._raw.closed

    def begin(self) -> None:
        """Empties the file for the film."""
        self._raw.truncate(0)

    def mark(self, *, head: bool = False) -> None:
        """Records that the file now holds the *head*, or the head and whole fragments."""
        self._whole = self.tell()
        if head:
            self._head = self._whole

    def abandon(self) -> None:
        """Stops writing, and leaves the file as it is."""
        self._raw.close()

    def close(self) -> None:
        if self.failure:
            self._raw.truncate(self._whole)
        empty = os.fstat(self._raw.fileno()).st_size <= self._head
        self._raw.close()
        if empty:
            self._path.unlink()


def _open_as_it_is(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_TRUNC, 0o666)
