"""What is published, as a film: H.264 in MP4, each frame at the time when it was published. No viewer is needed.

A recording has a thread of its own, which takes the newest frame there is: when encoding is slower than publishing,
frames are skipped, and never the last one.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import sys
import threading
from concurrent.futures import Future, wait
from dataclasses import dataclass
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ._frames.store import Frame
from ._hub.stream import now_us
from ._system.fork_guard import in_forks, refuse_to_copy
from ._system.interrupts import result_of, uninterrupted, wait_for
from ._system.processors import usable_processors
from .encoders.video import color_tags, has_codec, import_av, picture_of
from .types import ColorSpace, Pixels, check_int

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream

    from .display import Display

log = logging.getLogger(__name__)

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
"""Those of x264, from the fastest to the one with the smallest files."""

_CRF = 18
"""The quality unless something is asked for: where x264's users see no loss."""

_TICKS = 10_000
"""The film's clock, in ticks a second."""

_LONGEST = 24 * 3600 * _TICKS
"""Ticks that one frame may last: FFmpeg has 31 bits for it, two and a half days. What rests longer is encoded again."""

_MUXER = {
    # Fragments while it is written, so that a crash or a full disk leaves a film that plays. At the end they get the
    # ordinary index, with which more players can seek.
    "movflags": "hybrid_fragmented+default_base_moof",
    "frag_duration": "1000000",  # microseconds: what a crash loses, beside the frames that x264 holds
    "flush_packets": "1",  # a fragment is in the file when the muxer returns
}

_writing: dict[str, Recording] = {}
"""The recordings that are not done, by the real path of their file."""


def recording_available() -> bool:
    """Whether PyAV is installed and has libx264, without which nothing can be recorded."""
    return has_codec("libx264")


class Recording:
    """A film of what *display* publishes, being made. `Display.record` makes it, and says what the arguments are.

    It ends with `stop` or `close`, with the block that it is the context manager of, sync or async, with its display,
    also when that is taken over by another run of its cell, or with the process.
    """

    def __init__(
        self,
        display: Display,
        path: str | os.PathLike[str],
        *,
        fps: int,
        bitrate: int | None = None,
        crf: int | None = None,
        preset: str = "veryfast",
    ) -> None:
        if not recording_available():
            raise RuntimeError("recording needs PyAV: pip install 'pdum-rfb-widget[h264]'")
        settings = _Settings(fps, bitrate, crf, preset)
        self.path = Path(os.path.abspath(os.path.expanduser(path)))
        """Where the film is."""
        self.frames_written = 0
        """Frames that were encoded so far."""
        self.done: Future[None] = Future()
        """Done when the file is closed, with the error if there was one."""
        self.done.set_running_or_notify_cancel()  # a waiter that is cancelled must not cancel it for all
        self._publication = display._publication
        self._news = threading.Event()
        self._lock = threading.Lock()  # guards the end, which any thread may bring about
        self._last: Frame | None = None
        self._ended_us: int | None = None
        self._began_us = now_us()
        self._version = self._lead_us = 0  # of the frame that was taken last
        key, begun = self._free_path(), False
        try:
            with uninterrupted():
                self._begin(key, settings)
                begun = True
        except KeyboardInterrupt:
            if begun:
                self.end()  # who asked for it will never have it
            raise

    def _begin(self, key: str, settings: _Settings) -> None:
        with contextlib.ExitStack() as undo:
            self._claim(key)
            undo.callback(_writing.pop, key)
            with self._lock:  # the display may end it as soon as it knows it
                self._publication.begin_recording(self)
            undo.callback(self._publication.end_recording, self)
            self._stream = self._publication.stream
            self._film = _Film(self.path, settings, self._stream.options.resize_policy == "match_client")
            self._stream.add_listener(self._news.set)
            undo.callback(self._stream.remove_listener, self._news.set)
            self._undo = undo.pop_all()
        self._news.set()  # the newest frame there is already is the first
        # A daemon, because the process waits for all others before it calls what ends this one.
        threading.Thread(target=self._run, name="rfb-recording", daemon=True).start()

    def _free_path(self) -> str:
        """The path's key in `_writing`, once an earlier film there is finished."""
        if self.path.suffix.lower() != ".mp4":
            raise ValueError(f"a recording is an MP4 file, the path ends with .mp4, not {str(self.path)!r}")
        key = os.path.realpath(self.path)
        while (other := _writing.get(key)) and other._ended_us is not None:
            wait_for(other.done)
        return key

    def _claim(self, key: str) -> None:
        if _writing.setdefault(key, self) is not self:
            raise ValueError(f"{str(self.path)!r} is being recorded already: stop that recording first")

    # Any thread -------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End the film with the frame that is the newest, and wait until its file is closed. Safe to call again.

        Raises what broke the recording off: an `OSError` with the path, from a full disk for example. What was written
        before plays. Raises `RuntimeError` when nothing was published: then there is no film, and no file is changed.
        """
        self.end()
        if self._publication.process.here:
            await asyncio.wrap_future(self.done)

    def close(self) -> None:
        """`stop`, for those who can't await."""
        self.end()
        if self._publication.process.here:
            result_of(self.done)

    def end(self) -> None:
        """Take no more frames. The file is finished in the background; `done` says when.

        In a fork of its process this and all else that ends it does nothing: the film is the parent's.
        """
        if not self._publication.process.here:
            return
        with uninterrupted(), self._lock:
            if self._ended_us is None:
                # Held at once: who takes the stream over makes it forget the frame.
                self._last = self._stream.hold_from(self._publication)
                self._ended_us = now_us()
            self._news.set()

    def abandon(self) -> None:
        """In a fork: leave the file to the process that writes it. PyAV would write its end when it is collected."""
        self._film.file.abandon()

    def __reduce__(self) -> NoReturn:
        refuse_to_copy("Recording", "its film is written here")

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        # An error of the block is the one to show; the recording's own is in the log.
        with contextlib.suppress(Exception) if kind else contextlib.nullcontext():
            self.close()

    async def __aenter__(self) -> Recording:
        return self

    async def __aexit__(self, kind: object, *exc: object) -> None:
        with contextlib.suppress(Exception) if kind else contextlib.nullcontext():
            await self.stop()

    def __repr__(self) -> str:
        state = "closed" if self.done.done() else "recording" if self._ended_us is None else "ending"
        return f"<Recording {str(self.path)!r}, {self.frames_written} frames, {state}>"

    # Its own thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        error: Exception | None = None
        try:
            with contextlib.closing(self._film):
                _let_others_pass()
                self._record()
        except Exception as raised:
            error = self._film.file.failure or raised
            log.error("recording %s: %s", self.path, error, exc_info=None if self._film.file.failure else raised)
        else:
            if not self.frames_written:
                error = RuntimeError(f"nothing was published while {str(self.path)!r} was recorded: there is no film")
                log.warning("%s", error)
        self.end()
        if self._last:
            self._stream.release(self._last)
        self._undo.close()
        if error:
            self.done.set_exception(error)
        else:
            self.done.set_result(None)

    def _record(self) -> None:
        while self._ended_us is None:
            self._news.wait()
            self._news.clear()
            if frame := self._hold():
                try:
                    self._take(frame)
                finally:
                    self._stream.release(frame)
        if self._last:
            self._take(self._last)
        if self.frames_written:
            self._film.finish(self._ended_us + self._lead_us)

    def _hold(self) -> Frame | None:
        with self._lock:
            return self._stream.hold_from(self._publication) if self._ended_us is None else None

    def _take(self, frame: Frame) -> None:
        if frame.tiles.version > self._version:
            self._version, self._lead_us = frame.tiles.version, frame.tiles.lead_us
            shown_us = max(frame.tiles.timestamp_us, self._began_us) + self._lead_us
            self._film.add(frame.pixels, shown_us, frame.tiles.color)
            self.frames_written += 1


def _let_others_pass() -> None:
    # x264's threads inherit it; elsewhere than on Linux it would be the process's. With two other processes that kept
    # 2 cores busy a viewer saw 235 to 239 of 240 frames of 1080p, the film has 44 to 59; without it 233 to 237 and 77
    # to 83. On an idle machine it makes no difference.
    with contextlib.suppress(OSError):
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + 5)


@in_forks
def _leave_to_the_parent() -> None:
    for recording in tuple(_writing.values()):
        with contextlib.suppress(AttributeError):  # another thread was only about to begin it
            recording.abandon()
    _writing.clear()


@atexit.register
def _finish_all() -> None:
    """Films that nobody ended are finished with the process."""
    recordings = tuple(_writing.values())
    for recording in recordings:
        recording.end()
    wait([recording.done for recording in recordings])


@dataclass(frozen=True, slots=True)
class _Settings:
    """How a film is encoded. Raises `TypeError` or `ValueError` that names what came and what is wanted."""

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


# The film -------------------------------------------------------------------------------------------------------------


class _Film:
    """A file, and the encoder and muxer that the first frame opens for its size and colour. Used by one thread.

    With *second_sizes* the film has the size of its second frame, if there is one.
    """

    def __init__(self, path: Path, settings: _Settings, second_sizes: bool = False) -> None:
        self.file = _File(path)
        self._settings = settings
        self._size = (0, 0)
        self._first_us = 0
        self._second_sizes = second_sizes
        self._waiting: tuple[Pixels, int, ColorSpace | None] | None = None  # the first frame, for the second's size
        self._shown: VideoFrame | None = None
        self._packet: Packet[VideoStream] | None = None  # the newest, which waits to know how long it is shown
        self._tick = -1
        self._finished = False

    def add(self, pixels: Pixels, time_us: int, color: ColorSpace | None = None) -> None:
        """Show *pixels* from *time_us* on: at the film's start if they are the first."""
        if self._second_sizes:
            self._second_sizes = False
            self._waiting = pixels.copy(), time_us, color
            return
        if self._tick < 0:
            self._begin(pixels, time_us, color)
        self._show(pixels, time_us)

    def _begin(self, pixels: Pixels, time_us: int, color: ColorSpace | None) -> None:
        """Open the film in the size of *pixels*, with the frame that waits for that, if there is one."""
        first, self._waiting = self._waiting, None
        self._open(pixels, first[1] if first else time_us, first[2] if first else color)
        if first:
            self._show(*first[:2])

    def _show(self, pixels: Pixels, time_us: int) -> None:
        # Frames of two threads may be as good as simultaneous; the format wants them one after the other.
        tick = max(self._tick + 1, self._tick_of(time_us))
        self._rest_until(tick)
        self._shown = _picture(pixels, *self._size)
        self._encode(tick)

    def finish(self, time_us: int) -> None:
        """Show the last frame until *time_us*, or for as long as one of `fps` if that is longer."""
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
        """Close the file, whatever happened: a film that is not finished ends with what could be encoded."""
        if self._tick >= 0 and not self._finished:
            with contextlib.suppress(Exception):  # whoever calls this knows what failed
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
        context.max_b_frames = 0  # then packets come in the order of the frames, and one after the other has a duration
        if settings.bitrate is None:
            context.options["crf"] = str(_CRF if settings.crf is None else settings.crf)
        else:
            context.bit_rate = settings.bitrate
        # BT.601 in files too: BT.709 is 12 of 255 off in Chromium and Firefox where this is 2, and what doesn't read
        # tags, swscale for example, takes everything for BT.601.
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = color_tags(color)
        self._container.start_encoding()
        self.file.mark(head=True)

    def _rest_until(self, tick: int) -> None:
        """Encode what is shown as often as it takes, so that no frame before *tick* lasts too long."""
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


# Pictures -------------------------------------------------------------------------------------------------------------


def _even(side: int) -> int:
    return side + side % 2


def _picture(pixels: Pixels, width: int, height: int) -> VideoFrame:
    """*pixels* as 4:2:0, BT.601, limited range: as large as they fit into *width* x *height*, amid black."""
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
    if rows % 2 or columns % 2:  # the last row and column once more: to scale by a pixel would blur the whole picture
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
    """Y, U and V of *picture*, sharing its memory."""
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in picture.planes
    ]


# The file -------------------------------------------------------------------------------------------------------------


class _File:
    """What the muxer writes to. It is emptied by the first bytes, and goes if no frame gets into it.

    After an error it takes nothing more, so that its head, which the muxer writes anew when all is done, stays that of
    a fragmented film. What follows the last whole fragment is cut off: players stumble over a part of one.
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
        # PyAV asks before it writes the end of a film that was given up: FFmpeg crashes there when there is no frame.
        return self._raw.closed

    def begin(self) -> None:
        """The film replaces what the file holds."""
        self._raw.truncate(0)

    def mark(self, *, head: bool = False) -> None:
        """What is in the file by now is the *head*, or that and whole fragments."""
        self._whole = self.tell()
        if head:
            self._head = self._whole

    def abandon(self) -> None:
        """Write nothing any more, and leave the file as it is."""
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
