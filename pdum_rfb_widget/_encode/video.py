"""The worker of a shared encoder: a backend, which is opened, used and closed on a thread of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from .._core.policy.bandwidth import QUANTIZERS
from .._core.shared_encoders import EncodeRequest
from .._frames.chunk import Chunk
from .._frames.pixels import FORMATS
from .._frames.store import Frame
from .._system.threads import Workers
from ..encoders.base import video_encoder_for
from ..encoders.image import looks_drawn
from ..protocol import bitstream_of
from ..types import ColorSpace, EncodedPayload, EncoderBackend, EncoderKey, RawFrame, VideoFormat


class SharedEncoderWorker:
    """The worker of one shared encoder: its backend, and its thread."""

    def __init__(self, key: EncoderKey, fps: float, wanted: str = "auto") -> None:
        self._key = key
        self._wanted = wanted
        self.fps = fps
        """The frame rate to encode for. The hub's loop changes it before a keyframe, while that thread is idle."""
        self._thread = Workers(1, "rfb-video")
        # Used on the worker's thread only:
        self._backend: EncoderBackend | None = None
        self._of: tuple[VideoFormat, int, int, ColorSpace | None, float] | None = None

    def encode(self, frame: Frame, request: EncodeRequest, done: Callable[[Chunk | BaseException], None]) -> None:
        """Encodes *frame* and calls *done* with its access unit, on the worker's thread. Raises `RuntimeError` once it
        was closed, and where that thread can't begin."""
        self._thread.submit(self._run, frame, request, done)

    def close(self) -> None:
        """Closes the backend after the work that was begun."""
        with contextlib.suppress(RuntimeError):  # no thread could begin, and there is nothing to close
            self._thread.submit(self._close)
        self._thread.shutdown()

    def _run(self, frame: Frame, request: EncodeRequest, done: Callable[[Chunk | BaseException], None]) -> None:
        outcome: Chunk | BaseException
        try:
            outcome = self.chunk(frame, request)
        except BaseException as error:
            self._close()
            outcome = error
        done(outcome)

    def chunk(self, frame: Frame, request: EncodeRequest) -> Chunk:
        """Returns the access unit for *frame*, encoded on this thread, which must be the same each time."""
        started = time.perf_counter()
        tiles, pixels = frame.tiles, frame.pixels
        if request.keyframe:
            self._open(frame)
        assert self._backend, "the first frame of a shared encoder is a keyframe"
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
        if request.still and encode_still:
            payloads = encode_still(raw)
        else:
            # An encoder that holds frames back returns this one when it is flushed; its next is a keyframe then.
            payloads = self._backend.encode(raw, force_keyframe=request.keyframe) or self._backend.flush()
        said = _access_unit(payloads, keyframe=request.keyframe)
        encode_ms = (time.perf_counter() - started) * 1000
        return Chunk(tiles, *said, self._key.rung, encode_ms, request.still, bool(encode_still))

    def _open(self, frame: Frame) -> None:
        """Opens a backend that suits *frame*, unless the open one does."""
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
    """Returns the bytes of one frame, their codec, their framing, and if they are a keyframe, as *keyframe* asks.

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
