"""A stream of the hub, with its viewers, in virtual time: the real code between publisher and transports.

Links (rate, latency, jitter, loss as delay), encoders (a cost a pixel) and viewers (which draw, and acknowledge) are
simulated; clocks and threads are replaced by `VirtualLoop`. What a viewer's canvas shows is kept by tile: the version
of the frame that it was drawn from, and whether exactly. Every rule of the wire that a viewer relies on is asserted
where a message is drawn.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from virtual_time import VirtualLoop, no_other_loop

from pdum_rfb_widget._core.session import ViewerSession
from pdum_rfb_widget._core.shared_encoders import EncodeRequest, SharedEncoder
from pdum_rfb_widget._core.viewer import Viewer
from pdum_rfb_widget._encode import executor
from pdum_rfb_widget._encode.jobs import stripes_of
from pdum_rfb_widget._frames.chunk import Chunk
from pdum_rfb_widget._frames.damage import TILE, TileMap
from pdum_rfb_widget._frames.store import Frame
from pdum_rfb_widget._hub import stream as hub
from pdum_rfb_widget._hub.viewer import ViewerConnection
from pdum_rfb_widget.limits import Limits
from pdum_rfb_widget.protocol import unpack_binary_message
from pdum_rfb_widget.transport import TransportClosed
from pdum_rfb_widget.types import Encoded, EncoderKey, Fidelity, Message, Part, Pixels, Rect, StreamOptions

PICTURES = ("image/jpeg", "image/png", "rfb/tiles")
VIDEO = (*PICTURES, "webcodecs/h264-annexb")
ONLY_VIDEO = ("webcodecs/h264-annexb",)

_SOCKET_BUFFER = 64 * 1024
"""Bytes that the sender's system takes before `send` waits."""
_RETRANSMISSION = 0.2
"""Seconds by which TCP delivers later what was lost once."""


@dataclass(frozen=True)
class Link:
    """The way between the hub and one viewer."""

    rate: float = math.inf
    """Bytes a second."""
    latency: float = 0.0
    """Seconds each way."""
    jitter: float = 0.0
    """Seconds, at most, that a message takes longer."""
    loss: float = 0.0
    """The share of messages that come later by a retransmission."""


class SimulatedTransport:
    """The hub's end of a connection; in order, as TCP is."""

    def __init__(self, loop: VirtualLoop, link: Link, chance: random.Random) -> None:
        self.latency = 2 * link.latency
        self.link = link
        self.ended: tuple[int, str] | None = None
        self.deliver: Callable[[bytes | str], None] = lambda data: None
        self.nbytes = 0
        self._loop, self._chance = loop, chance
        self._came: asyncio.Queue[str | None] = asyncio.Queue()
        self._said: deque[str] = deque()
        self._travelling: deque[bytes | str] = deque()
        self._free_at = self._arrives_at = 0.0

    async def send(self, data: Message | bytes) -> None:
        if self.ended:
            raise TransportClosed(str(self.ended))
        message = b"".join(data) if isinstance(data, tuple) else data
        self.nbytes += len(message)
        now = self._loop.time()
        self._free_at = max(now, self._free_at) + len(message) / self.link.rate
        late = self._chance.random() * self.link.jitter + _RETRANSMISSION * (self._chance.random() < self.link.loss)
        self._arrives_at = max(self._arrives_at, self._free_at + self.link.latency + late)
        self._travelling.append(message)  # timers of the same time may fire in any order
        self._loop.call_at(self._arrives_at, self._deliver)
        waits = self._free_at - now - _SOCKET_BUFFER / self.link.rate
        if waits > 0:
            await asyncio.sleep(waits)

    def _deliver(self) -> None:
        message = self._travelling.popleft()
        if not self.ended:
            self.deliver(message)

    def say(self, text: str) -> None:
        """The viewer sends *text*."""
        self._said.append(text)
        self._loop.call_later(self.link.latency, lambda: self._came.put_nowait(self._said.popleft()))

    async def receive(self) -> str:
        text = await self._came.get()
        if text is None:
            raise TransportClosed(str(self.ended))
        return text

    async def close(self, code: int, reason: str) -> None:
        self.leave((int(code), reason))

    def leave(self, why: tuple[int, str] = (1001, "the viewer left")) -> None:
        self.ended = self.ended or why
        self._came.put_nowait(None)


@dataclass(frozen=True)
class Machine:
    """What the hub's processors and encoders need, in seconds and bytes a pixel."""

    cores: int = 4
    exact_seconds: float = 5e-9
    lossy_seconds: float = 2e-9
    video_seconds: float = 4e-9
    exact_bytes: float = 0.5
    lossy_bytes: float = 0.15
    video_bytes: float = 0.02
    """At the finest rung of JPEG and H.264."""


class Processors:
    """Work in the order that it came, on so many cores."""

    def __init__(self, loop: VirtualLoop, machine: Machine) -> None:
        self.machine = machine
        self.busy = 0.0
        """Seconds of work."""
        self.encodings = 0
        self._loop = loop
        self._free_at = [0.0] * machine.cores

    def run(self, seconds: float, done: Callable[[], object]) -> None:
        self.busy += seconds
        self.encodings += 1
        self._loop.call_at(self.work(seconds, self._loop.time()), done)

    def work(self, seconds: float, start: float) -> float:
        """The time at which work that may *start* then is done."""
        core = min(range(len(self._free_at)), key=self._free_at.__getitem__)
        self._free_at[core] = max(start, self._free_at[core]) + seconds
        return self._free_at[core]


class SimulatedJob:
    """In place of `EncodeJob`: parts of the right sizes, after the right time."""

    def __init__(
        self,
        frame: Frame,
        rects: tuple[Rect, ...],
        fidelity: Fidelity,
        done: Callable[[Encoded | BaseException], None],
    ) -> None:
        self._fidelity, self._done = fidelity, done
        self._rects = stripes_of(rects) if fidelity.tiles else list(rects)

    def start(self, pool: Processors, threads: int) -> None:
        machine, quality = pool.machine, self._fidelity.quality
        exact = quality is None
        cost = machine.exact_bytes if exact else machine.lossy_bytes * (quality or 0) / 90
        parts = tuple(
            Part(rect, self._fidelity.mime, bytes(64 + int(cost * rect[2] * rect[3])), exact=exact)
            for rect in self._rects
        )
        pixels = sum(width * height for _, _, width, height in self._rects)
        seconds = 1e-4 + pixels * (machine.exact_seconds if exact else machine.lossy_seconds)
        encoded = Encoded(parts, b"".join(part.data for part in parts), 1000 * seconds)
        pool.run(seconds, lambda: self._done(encoded))


class SimulatedEncoder:
    """In place of `SharedEncoderWorker`."""

    processors: Processors
    fails = False

    def __init__(self, key: EncoderKey, fps: float, wanted: str = "auto") -> None:
        self._key = key
        self.fps = fps

    def encode(self, frame: Frame, request: EncodeRequest, done: Callable[[Chunk | BaseException], None]) -> None:
        machine, pixels = self.processors.machine, frame.tiles.width * frame.tiles.height
        nbytes = pixels * machine.video_bytes * 0.7**self._key.rung * (8 if request.keyframe else 1)
        seconds = 5e-4 + pixels * machine.video_seconds
        outcome: Chunk | BaseException = Chunk(
            request.tiles,
            bytes(64 + int(nbytes)),
            "avc1.42e01f",
            "annexb",
            request.keyframe,
            self._key.rung,
            1000 * seconds,
            request.still,
            stills=True,
        )
        if self.fails:
            outcome = RuntimeError("the encoder was told to fail")
        self.processors.run(seconds, lambda: done(outcome))

    def close(self) -> None:
        pass


class SimulatedViewer:
    """A page: it draws what comes, one after the other, and acknowledges what it has drawn."""

    def __init__(
        self,
        simulation: Simulation,
        number: int,
        link: Link,
        supported: tuple[str, ...],
        draw: float,
        draw_video: float,
        local: bool,
    ) -> None:
        self.supported = supported
        self.exact = "image/png" in supported
        self.honest = self.visible = True
        self.stalled = False
        self.draw, self.draw_video = draw, draw_video
        """Seconds a megapixel, of images and of video. A local viewer draws on the hub's processors."""
        self.latencies: list[float] = []
        """Seconds from publishing to drawing, of every frame."""
        self.payloads = 0
        self._simulation, self._loop = simulation, simulation.loop
        self.transport = SimulatedTransport(self._loop, link, random.Random(number))
        self.transport.deliver = self._receive
        session = ViewerSession(simulation.stream.core.state, lambda hello: None, self._loop.time(), local)
        self.viewer = Viewer(session, number)
        connection = ViewerConnection(self.viewer, self.transport, simulation.stream, Limits())
        self._running = self._loop.create_task(connection.run())
        self._free_at = 0.0
        self._unread: deque[bytes | str] = deque()
        self._config: dict[str, Any] = {}
        self._seq = self._newest_us = 0
        self._chunk: int | None = None
        self._lost = False
        self._size = (0, 0)
        self._versions, self._exactly = np.zeros((0, 0), np.int64), np.zeros((0, 0), np.bool_)
        self.say({"type": "hello", "supported": list(supported)})

    def __repr__(self) -> str:
        session = self.viewer.session
        return (
            f"<{self.viewer.id} {self.supported[-1]} {self.transport.link} draw={self.draw} seq={self._seq} "
            f"in_flight={session.window.taken} stale={session.stale} visible={session.visible} "
            f"versions={np.unique(self._versions)} exact={self._exactly.all()}>"
        )

    def say(self, message: dict[str, Any]) -> None:
        self.transport.say(json.dumps(message))

    def see(self, visible: bool) -> None:
        """The view is scrolled in, or away."""
        self.visible = visible
        self.say({"type": "event", "event": {"type": "show" if visible else "hide"}})

    def stall(self, stalled: bool) -> None:
        """The page draws and acknowledges nothing, or goes on."""
        self.stalled = stalled
        while self._unread and not self.stalled:
            self._receive(self._unread.popleft())

    def lose_decoder(self) -> None:
        """What was decoded and drawn is gone."""
        self._chunk, self._lost = None, True
        self._versions[:] = 0
        self.say({"type": "decoder_reset"})

    def leave(self) -> None:
        self.transport.leave()

    def _receive(self, data: bytes | str) -> None:
        if self.stalled:
            self._unread.append(data)
        elif isinstance(data, str):
            message = json.loads(data)
            if message["type"] == "config":
                self._config = message
        else:
            header, _ = unpack_binary_message(data)
            video = header["type"] == "video_chunk"
            seconds = (self.draw_video if video else self.draw) * self._pixels_of(header) / 1e6
            now, start = self._loop.time(), max(self._loop.time(), self._free_at)
            local = self.viewer.session.bandwidth.local
            self._free_at = self._simulation.processors.work(seconds, start) if local else start + seconds
            self._take(header)
            self._loop.call_at(self._free_at, self._drawn, header, self._free_at - start, start - now)

    @staticmethod
    def _pixels_of(header: dict[str, Any]) -> int:
        parts = header.get("parts") or [(0, 0, header["width"], header["height"])]
        return sum(part[2] * part[3] for part in parts)

    def _drawn(self, header: dict[str, Any], seconds: float, waited: float) -> None:
        if not self.transport.ended:
            self.latencies.append(self._loop.time() - header["timestamp_us"] / 1e6)
            self.say({"type": "ack", "seq": header["seq"], "draw_ms": 1000 * seconds, "wait_ms": 1000 * waited})

    def _take(self, header: dict[str, Any]) -> None:
        assert header["seq"] == self._seq + 1, "payloads are numbered without gaps"
        self._seq = header["seq"]
        self.payloads += 1
        size = header["width"], header["height"]
        assert size == (self._config["width"], self._config["height"]), "a config comes before a new size"
        version = self._simulation.version_at[header["timestamp_us"]]
        if size != self._size:
            self._size = size
            shape = -(-size[1] // TILE), -(-size[0] // TILE)
            self._versions, self._exactly = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        if header["type"] == "video_chunk":
            if self._lost and not header["keyframe"]:
                return  # it was on its way before the hub heard of the loss
            self._lost = False
            assert header["keyframe"] or self._chunk is not None, "a delta has the reference that it needs"
            assert header.get("after", self._chunk) == self._chunk, "a delta follows the chunk that it refers to"
            self._chunk = header["seq"]
        drawn = header.get("parts") or header.get("rects")
        for x, y, width, height, *more in [(0, 0, *size, header.get("mime"))] if drawn is None else drawn:
            # Stills may be of an older frame than the newest that was drawn, never of an older than they lie on.
            place = np.s_[y // TILE : -(-(y + height) // TILE), x // TILE : -(-(x + width) // TILE)]
            changed = self._simulation.changed_by(version, size)[place]
            assert (np.maximum(changed, 0) >= self._simulation.changed_of(self._versions[place], place, size)).all(), (
                "no tile goes back in time"
            )
            self._versions[place] = version
            self._exactly[place] = more[:1] == ["image/png"]

    def shows(self, newest: TileMap) -> bool:
        """The newest frame, on every tile; exactly where the viewer takes exact pictures."""
        if self._size != newest.size:
            return False
        right = self._versions >= newest.changed
        return bool((right & self._exactly if self.exact else right).all())


class Simulation:
    """One stream, its publisher, and any number of viewers."""

    def __init__(self, machine: Machine | None = None, **options: Any) -> None:
        self.loop = VirtualLoop()
        self.processors = Processors(self.loop, machine or Machine())
        self.viewers: list[SimulatedViewer] = []
        self.events: list[Any] = []
        self.version_at: dict[int, int] = {}
        self._maps: dict[int, TileMap] = {}
        self._number = 0
        self._pixels: Pixels | None = None
        self._options = StreamOptions(**{"stats_interval": None, **options})

    @contextmanager
    def running(self, width: int = 1280, height: int = 720) -> Iterator[Simulation]:
        """Everything of one simulation happens inside of this."""
        clock = SimpleNamespace(
            monotonic=self.loop.time,
            time=self.loop.time,
            strftime=lambda form: "00:00:00",
            monotonic_ns=lambda: round(self.loop.time() * 1e9),
        )
        encoder = type("Encoder", (SimulatedEncoder,), {"processors": self.processors})
        asyncio.set_event_loop(self.loop)
        with (
            patch.object(hub, "time", clock),
            patch.object(executor, "EncodeJob", SimulatedJob),
            patch.object(executor, "SharedEncoderWorker", encoder),
            patch.object(self.processors, "replace_hung", lambda: None, create=True),
            # By their addresses, sets would be in another order in each run.
            patch.object(Viewer, "__hash__", lambda viewer: viewer.number),
            patch.object(ViewerSession, "__hash__", lambda session: hash(session.metrics.started_at)),
            patch.object(SharedEncoder, "__hash__", lambda shared: shared.key.rung),
        ):
            self.encoder = encoder
            self.loop.call_soon(self._begin, width, height)
            self.loop.run_for(0.001)
            try:
                yield self
            finally:
                for simulated in self.viewers:
                    simulated.leave()
                self.loop.run_for(60)
                with no_other_loop():
                    self.loop.run_until_complete(self.stream.close("the end"))
                self.loop.close()
                asyncio.set_event_loop(None)

    def _begin(self, width: int, height: int) -> None:
        self._pixels = np.zeros((height, width), np.uint8)
        pool: Any = self.processors
        self.stream = hub.Stream(
            "simulated", (width, height), self._options, self.loop, pool, self.processors.machine.cores
        )
        self.stream.take_over(self, (width, height), self._options)
        take = self.stream.core.published

        def note(newest: TileMap | None, *, pending: TileMap | None) -> None:
            if newest:
                self.version_at[newest.timestamp_us], self._maps[newest.version] = newest.version, newest
            take(newest, pending=pending)

        patch.object(self.stream.core, "published", note).start()  # for as long as the core is there

    # Publisher --------------------------------------------------------------------------------------------------------

    def put_event(self, event: Any) -> None:
        self.events.append(event)

    def put_message(self, message: Any, nbytes: int) -> None:
        self.events.append(message)

    def publish(self, rect: Rect | None = None) -> None:
        """A frame that differs from the one before in *rect*, or everywhere."""
        assert self._pixels is not None
        self._number += 1
        x, y, width, height = rect or (0, 0, *self._pixels.shape[::-1])
        self._pixels[y : y + height, x : x + width] += 1
        self.republish()

    def republish(self) -> None:
        """The same frame once more."""
        assert self._pixels is not None
        self.loop.now += 1e-6  # no two frames have the same time
        self.stream.publish(self, self._pixels, None)

    def resize(self, width: int, height: int) -> None:
        self._pixels = np.zeros((height, width), np.uint8)
        self.publish()

    def changed_by(self, version: int, size: tuple[int, int]) -> Any:
        """The version in which each tile of frame *version* last changed."""
        tiles = self._maps[version]
        assert tiles.size == size
        return tiles.changed

    def changed_of(self, versions: Any, place: Any, size: tuple[int, int]) -> Any:
        """The version in which each of the tiles at *place*, drawn from frames *versions*, last changed."""
        return np.max(
            [
                np.where(versions == version, self._maps[version].changed[place], 0)
                for version in np.unique(versions)
                if version and self._maps[version].size == size
            ]
            or [np.zeros_like(versions)],
            axis=0,
        )

    # Viewers ----------------------------------------------------------------------------------------------------------

    def join(
        self,
        link: Link | None = None,
        supported: tuple[str, ...] = VIDEO,
        *,
        draw: float = 0.005,
        draw_video: float | None = None,
        local: bool = False,
    ) -> SimulatedViewer:
        """A viewer that draws a megapixel in *draw* seconds, of video in *draw_video*."""
        self._number += 1
        made: list[SimulatedViewer] = []
        self.loop.call_soon(
            lambda: made.append(
                SimulatedViewer(self, self._number, link or Link(), supported, draw, draw_video or draw, local)
            )
        )
        self.loop.run_for(0.0)
        self.viewers.append(made[0])
        return made[0]

    def play(self, seconds: float, fps: float = 30, rect: Rect | None = None) -> None:
        """Publish so many frames a second."""
        for _ in range(round(seconds * fps)):
            self.publish(rect)
            self.loop.run_for(1 / fps)
