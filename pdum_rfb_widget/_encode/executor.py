"""Runs what the core of one stream has encoded: images on the hub's threads, video on one for each shared encoder.

Threads: everything belongs to the hub's loop, except the encoding itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial

from .._core.encode_jobs import EncodeImages, EncodeVideo, Job
from .._core.shared_encoders import SharedEncoder
from .._frames.chunk import Chunk
from .._frames.store import Frame
from ..protocol import CloseCode, ProtocolError
from ..types import Encoded
from .jobs import EncodeJob
from .pool import HUNG_AFTER, Pool
from .video import SharedEncoderWorker


class Executor:
    """The encoders of one stream. *done* is called in *loop* with each job and its outcome, *release* on any thread
    with each frame that is not read any more."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: Pool,
        threads: int,
        release: Callable[[Frame], None],
        done: Callable[[Job, Encoded | Chunk | Exception], None],
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._threads = threads
        self._release = release
        self._done = done
        self._workers: dict[SharedEncoder, SharedEncoderWorker] = {}
        self._at_work = 0
        """Number of jobs of images in progress."""
        self._check: asyncio.TimerHandle | None = None

    def encode(self, job: EncodeImages, frame: Frame) -> None:
        """Encodes the images of *job*."""
        self._at_work += 1
        self._watch()
        done = partial(self._encoded, job, frame)
        try:
            EncodeJob(frame, job.plan.region.rects, job.plan.fidelity, done).start(self._pool, self._threads)
        except RuntimeError as error:
            done(ProtocolError(CloseCode.GOING_AWAY, f"the hub gets no thread to encode: {error}"))

    def encode_video(self, job: EncodeVideo, frame: Frame, codec: str) -> None:
        """Encodes *frame* by the shared encoder of *job*, for a stream whose option `codec` this is."""
        encoder = job.encoder
        if (worker := self._workers.get(encoder)) is None:
            worker = self._workers[encoder] = SharedEncoderWorker(encoder.key, encoder.fps, codec)
        worker.fps = encoder.fps
        done = partial(self._encoded, job, frame)
        try:
            worker.encode(frame, job.request, done)
        except RuntimeError as error:
            done(error)

    def keep(self, encoders: Iterable[SharedEncoder]) -> None:
        """Closes the workers of all other shared encoders, after the work that they have begun."""
        for encoder in self._workers.keys() - set(encoders):
            self._workers.pop(encoder).close()

    def close(self) -> None:
        """Closes every encoder."""
        self.keep(())
        if self._check:
            self._check.cancel()

    def _encoded(  # on any thread
        self, job: Job, frame: Frame, outcome: Encoded | Chunk | BaseException
    ) -> None:
        self._release(frame)
        if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):  # it would end the loop
            outcome = RuntimeError(f"an encoder raised {outcome!r}")
        with contextlib.suppress(RuntimeError):  # the hub was closed meanwhile
            self._loop.call_soon_threadsafe(self._deliver, job, outcome)

    def _deliver(self, job: Job, outcome: Encoded | Chunk | Exception) -> None:
        self._at_work -= isinstance(job, EncodeImages)
        self._done(job, outcome)

    def _watch(self) -> None:
        """Looks for threads that hang while images are encoded."""
        if self._check is None:
            self._check = self._loop.call_later(1.5 * HUNG_AFTER, self._replace_hung)

    def _replace_hung(self) -> None:
        self._check = None
        self._pool.replace_hung()
        if self._at_work:
            self._watch()
