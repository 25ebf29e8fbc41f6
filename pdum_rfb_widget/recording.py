"""Recording of a stream: H.264 in MP4, each frame with the time of its publication. Needs no viewer.

Each recording has a thread of its own, which always takes the newest frame: if encoding is slower than publishing,
frames are skipped, but never the last one.
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
from pathlib import Path
from typing import NoReturn

from ._encode.mp4 import Mp4Settings, Mp4Writer
from ._frames.store import Frame
from ._hub.publication import AnyDisplay
from ._hub.stream import now_us
from ._system.fork_guard import in_forks, refuse_to_copy
from ._system.interrupts import result_of, uninterrupted, wait_for
from .encoders.video import has_codec

log = logging.getLogger(__name__)

_writing: dict[str, Recording] = {}
"""The recordings in progress, by the real path of their file."""


def recording_available() -> bool:
    """True if PyAV is installed and has libx264, which recording needs."""
    return has_codec("libx264")


class Recording:
    """A recording in progress of what *display* publishes. Created by `Display.record`, which documents the arguments.

    It ends by `stop` or `close`; as a context manager, sync or async, with its block; with its display, also when a new
    run of the cell takes that over; or with the process.
    """

    def __init__(
        self,
        display: AnyDisplay,
        path: str | os.PathLike[str],
        *,
        fps: int,
        bitrate: int | None = None,
        crf: int | None = None,
        preset: str = "veryfast",
    ) -> None:
        if not recording_available():
            raise RuntimeError("recording needs PyAV: pip install 'pdum-rfb-widget[h264]'")
        settings = Mp4Settings(fps, bitrate, crf, preset)
        self.path = Path(os.path.abspath(os.path.expanduser(path)))
        """The path of the file."""
        self.frames_written = 0
        """Number of frames encoded so far."""
        self.done: Future[None] = Future()
        """Done when the file is closed; holds the error if there was one."""
        self.done.set_running_or_notify_cancel()  # cancelling one waiting task must not cancel it for all
        self._publication = display._publication
        self._news = threading.Event()
        self._lock = threading.Lock()  # guards the end, which any thread may cause
        self._last: Frame | None = None
        self._ended_us: int | None = None
        self._began_us = now_us()
        self._version = self._lead_us = 0  # of the last frame taken
        key, begun = self._free_path(), False
        try:
            with uninterrupted():
                self._begin(key, settings)
                begun = True
        except KeyboardInterrupt:
            if begun:
                self.end()  # the caller never gets the recording, so cannot end it
            raise

    def _begin(self, key: str, settings: Mp4Settings) -> None:
        with contextlib.ExitStack() as undo:
            self._claim(key)
            undo.callback(_writing.pop, key)
            self._stream = self._publication.stream
            with self._lock:  # the display may end it once registered
                self._publication.begin_recording(self)
            undo.callback(self._publication.end_recording, self)
            self._film = Mp4Writer(self.path, settings, self._stream.options.resize_policy == "match_client")
            self._stream.listeners.add(self._news.set)
            undo.callback(self._stream.listeners.remove, self._news.set)
            self._undo = undo.pop_all()
        self._news.set()  # the newest existing frame is the first
        # A daemon: the process waits for all other threads before the exit handler ends this one.
        threading.Thread(target=self._run, name="rfb-recording", daemon=True).start()

    def _free_path(self) -> str:
        """The path's key in `_writing`, after an earlier recording there has finished."""
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
        """End the recording with the newest frame, and wait until its file is closed. May be called again.

        Raises the error that stopped the recording early, such as an `OSError` with the path for a full disk; the part
        written before plays. Raises `RuntimeError` if nothing was published: then no file is created or changed.
        """
        self.end()
        if self._publication.process.here:
            await asyncio.wrap_future(self.done)

    def close(self) -> None:
        """`stop`, without await."""
        self.end()
        if self._publication.process.here:
            result_of(self.done)

    def end(self) -> None:
        """Take no more frames. The file is finished in the background; `done` tells when.

        In a fork of its process, this and every other way to end it does nothing: the parent owns the recording.
        """
        if not self._publication.process.here:
            return
        with uninterrupted(), self._lock:
            if self._ended_us is None:
                # Held at once: the next publisher of the stream clears its frames.
                self._last = self._stream.hold_from(self._publication)
                self._ended_us = now_us()
            self._news.set()

    def abandon(self) -> None:
        """In a fork: leave the file to the parent process. Otherwise PyAV would write its end on garbage collection."""
        self._film.file.abandon()

    def __reduce__(self) -> NoReturn:
        refuse_to_copy("Recording", "its film is written here")

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        # Show the error of the block; the recording's own is in the log.
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
    # x264's threads inherit the priority; outside Linux it would apply to the process. With two other processes that
    # keep 2 cores busy, a viewer saw 235 to 239 of 240 frames of 1080p and the recording has 44 to 59; without it 233
    # to 237 and 77 to 83. On an idle machine it makes no difference.
    with contextlib.suppress(OSError):
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + 5)


@in_forks
def _leave_to_the_parent() -> None:
    for recording in tuple(_writing.values()):
        with contextlib.suppress(AttributeError):  # another thread had only started to create it
            recording.abandon()
    _writing.clear()


@atexit.register
def _finish_all() -> None:
    """Finish the recordings still in progress at the end of the process."""
    recordings = tuple(_writing.values())
    for recording in recordings:
        recording.end()
    wait([recording.done for recording in recordings])
