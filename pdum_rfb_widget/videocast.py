"""A stream's lanes at work: each has an encoder, which is opened, used and closed on a thread of its own.

Threads: everything belongs to the hub's loop, but for what `LaneEncoder` does on the lane's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable

from .adaptive import QUANTIZERS
from .encoders.base import video_encoder_for
from .encoders.image import looks_drawn
from .frames import Frame
from .lanes import Chunk, Lane, Take
from .limits import ENCODE_TIMEOUT
from .pixels import FORMATS
from .protocol import bitstream_of
from .scene import Scene
from .threads import Workers
from .types import ColorSpace, EncodedPayload, EncoderBackend, LaneKey, RawFrame, VideoFormat

log = logging.getLogger(__name__)


class VideoCast:
    """The encoders of one stream's lanes.

    *hold* gives its newest frame, to be given back to *release*; *changed* is called when viewers have something to
    send, *report* with what went wrong, in words.
    """

    def __init__(
        self,
        scene: Scene,
        hold: Callable[[], Frame | None],
        release: Callable[[Frame], None],
        changed: Callable[[], None],
        report: Callable[[str], None],
    ) -> None:
        self._scene = scene
        self._hold = hold
        self._release = release
        self._changed = changed
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._encoders: dict[Lane, LaneEncoder] = {}
        self._again: asyncio.TimerHandle | None = None
        self._closed = False

    def step(self) -> None:
        """Let every lane that has room take the newest frame, and close those that nobody is in any more."""
        lanes = set(self._scene.lanes)
        for lane in self._encoders.keys() - lanes:
            self._encoders.pop(lane).close()
        look = min((self._take(lane) for lane in lanes), default=math.inf)
        if self._again:
            self._again.cancel()
        self._again = None if math.isinf(look) else self._loop.call_at(look, self.step)

    def close(self) -> None:
        """Close every encoder; nothing is encoded any more."""
        self._closed = True
        if self._again:
            self._again.cancel()
        while self._encoders:
            self._encoders.popitem()[1].close()

    def _take(self, lane: Lane) -> float:
        """Encode the newest frame if *lane* takes it; when to ask again otherwise."""
        if (frame := self._hold()) is None:
            return math.inf
        encoder, fps = self._encoders.get(lane), self._scene.video_fps
        if encoder and encoder.fps < fps and not lane.busy:
            lane.renew(frame.tiles)
        take, look = self._scene.lanes.take(lane, frame.tiles, self._loop.time())
        if take is None:
            self._release(frame)
            return look
        if encoder is None:
            encoder = self._encoders[lane] = LaneEncoder(lane.key, fps, self._scene.options.codec)
        if take.keyframe:
            encoder.fps = fps

        hangs = TimeoutError(f"an encoder has not returned for {ENCODE_TIMEOUT:.0f} s")
        timer = self._loop.call_later(ENCODE_TIMEOUT, self._deliver, lane, take, hangs)

        def deliver(outcome: Chunk | BaseException) -> None:
            timer.cancel()
            self._deliver(lane, take, outcome)

        def encoded(outcome: Chunk | BaseException) -> None:  # on the lane's thread
            self._release(frame)
            with contextlib.suppress(RuntimeError):  # the hub was closed meanwhile
                self._loop.call_soon_threadsafe(deliver, outcome)

        try:
            encoder.encode(frame, take, encoded)
        except RuntimeError as error:
            timer.cancel()
            self._release(frame)
            self._loop.call_soon(self._deliver, lane, take, error)
        return look

    def _deliver(self, lane: Lane, take: Take, outcome: Chunk | BaseException) -> None:
        if self._closed:
            return
        if isinstance(outcome, BaseException):
            log.error("video of %dx%d: pictures serve from now on", *take.tiles.size, exc_info=outcome)
            self._report(f"video was given up for pictures: {type(outcome).__name__}: {outcome}")
            self._scene.fail_video(take.tiles.size)
        else:
            if not take.keyframe:
                self._scene.learn_video(outcome)
            for member in self._scene.lanes.encoded(lane, outcome, self._loop.time()):
                member.give(outcome)
        self._changed()
        self.step()


class LaneEncoder:
    """The encoder of one lane, and its thread."""

    def __init__(self, key: LaneKey, fps: float, wanted: str = "auto") -> None:
        self._key = key
        self._wanted = wanted
        self.fps = fps
        """That it is made for. The hub's loop changes it, while the lane's thread has no frame, before a keyframe."""
        self._thread = Workers(1, "rfb-video")
        # Of the lane's thread:
        self._backend: EncoderBackend | None = None
        self._of: tuple[VideoFormat, int, int, ColorSpace | None, float] | None = None

    def encode(self, frame: Frame, take: Take, done: Callable[[Chunk | BaseException], None]) -> None:
        """Call *done* with the access unit for *frame*, on the lane's thread. Raises `RuntimeError` once it was
        closed, and where that thread can't begin."""
        self._thread.submit(self._run, frame, take, done)

    def close(self) -> None:
        """Once what was begun is done."""
        with contextlib.suppress(RuntimeError):  # no thread could begin, and there is nothing to close
            self._thread.submit(self._close)
        self._thread.shutdown()

    def _run(self, frame: Frame, take: Take, done: Callable[[Chunk | BaseException], None]) -> None:
        outcome: Chunk | BaseException
        try:
            outcome = self.chunk(frame, take)
        except BaseException as error:
            self._close()
            outcome = error
        done(outcome)

    def chunk(self, frame: Frame, take: Take) -> Chunk:
        """The access unit for *frame*, encoded on this thread, which is to be the same each time."""
        started = time.perf_counter()
        tiles, pixels = frame.tiles, frame.pixels
        if take.keyframe:
            self._open(frame)
        assert self._backend, "the first frame of a lane is a keyframe"
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        raw = RawFrame(
            seq=tiles.version,
            width=tiles.width,
            height=tiles.height,
            timestamp_us=tiles.frame_us,
            pixel_format=FORMATS[channels],
            memory="cpu",
            data=pixels,
            pixel_ratio=tiles.pixel_ratio,
            color=tiles.color,
        )
        encode_still = getattr(self._backend, "encode_still", None)
        if take.still and encode_still:
            payloads = encode_still(raw)
        else:
            # An encoder that holds frames back gives this one when it is flushed; its next is a keyframe then.
            payloads = self._backend.encode(raw, force_keyframe=take.keyframe) or self._backend.flush()
        said = _access_unit(payloads, keyframe=take.keyframe)
        encode_ms = (time.perf_counter() - started) * 1000
        return Chunk(tiles, *said, self._key.rung, encode_ms, take.still, bool(encode_still))

    def _open(self, frame: Frame) -> None:
        """An encoder that suits *frame*: the one there is, or another."""
        full = next((form for form in self._key.formats if form.chroma == "444"), None)
        form = full if full and frame.pixels.ndim == 3 and looks_drawn(frame.pixels) else self._key.formats[0]
        width, height, color = *frame.tiles.size, frame.tiles.color
        wanted = form, width, height, color, self.fps
        if self._of == wanted:
            return
        self._close()
        self._backend = video_encoder_for(
            form,
            width=width,
            height=height,
            fps=self.fps,
            quality=QUANTIZERS[self._key.rung],
            color=color,
            wanted=self._wanted,
        )
        self._of = wanted

    def _close(self) -> None:
        backend, self._backend, self._of = self._backend, None, None
        if backend:
            backend.close()


def _access_unit(payloads: list[EncodedPayload], *, keyframe: bool) -> tuple[bytes, str, str, bool]:
    """The bytes of one frame, their codec, how they are framed, and whether they are a keyframe, as *keyframe* asks.

    Raises `RuntimeError` for what can't be sent as one frame: the encoder may be the application's own.
    """
    if not payloads:
        raise RuntimeError("the encoder gave nothing for a frame, nor when it was flushed")
    if len({payload.timestamp_us for payload in payloads}) > 1:
        raise RuntimeError(f"the encoder gave {len(payloads)} frames for one: streams ask for pipeline_depth=0")
    if not (codec := payloads[0].codec):
        raise RuntimeError("the encoder's payload names no codec")
    given = any(payload.keyframe for payload in payloads)
    if keyframe and not given:
        raise RuntimeError("the encoder gave no keyframe, which was asked for")
    return b"".join(payload.payload for payload in payloads), codec, bitstream_of(codec), given
