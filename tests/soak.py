"""Many viewers of all kinds that come and go for long: memory stays flat, nothing leaks, every picture ends exact.

    bash tests/run soak [seconds, by default 600] [viewers, by default 20]

The hub is measured in a process of its own; the viewers, in another, draw all that they are sent on canvases.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from weakref import WeakSet

import av  # noqa: F401  # so that it is there before the memory is measured
import numpy as np
import psutil
from hosts import wait_for
from inside import hub_of
from model import ModelCanvas, rgb
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

import pdum_rfb_widget as rfb
from pdum_rfb_widget.limits import Limits
from pdum_rfb_widget.protocol import unpack_binary_message

VIDEO = "webcodecs/h264-annexb"
KINDS = (
    ("image/jpeg", "image/png", "rfb/tiles"),
    ("image/jpeg", "image/png", "rfb/tiles", VIDEO, "rfb/h264-444"),
    ("image/jpeg", "image/png", VIDEO),
    ("image/png", "rfb/tiles"),
    ("image/jpeg", "image/png"),
    ("image/png",),
    ("image/webp", "image/png"),
    ("image/jpeg",),
    (VIDEO, "rfb/tiles"),
)
STREAMS: dict[str, dict[str, Any]] = {
    "pictures": {"codec": "none"},
    "video": {"codec": "h264", "adaptive": True},
    "exact": {"quality": "lossless"},
    "auto": {"resize_policy": "match_client", "bitrate": 2_000_000},
}
CHANGES: tuple[dict[str, Any], ...] = (
    {"quality": "auto"},
    {"quality": "lossy"},
    {"quality": 40},
    {"quality": "lossless"},
    {"max_inflight": 3},
    {"max_inflight": 1},
    {"fps": 60},
    {"bitrate": 400_000},
)
SIZES = ((160, 120), (321, 97), (240, 180), (64, 64))
EVENTS = (
    {"type": "pointer_move", "x": 5, "y": 7},
    {"type": "wheel", "dx": 0, "dy": 3},
    {"type": "key_down", "key": "a"},
    {"type": "hide"},
    {"type": "show"},
)


# The hub's process ----------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What was measured, of the hub's process."""

    seconds: float = 0.0
    viewers: int = 0
    frames: int = 0
    changes: int = 0
    connections: int = 0
    megabytes: float = 0.0
    """That the viewers were sent."""
    memory_before: float = 0.0
    """Megabytes after warm-up; the median of a tenth of the time."""
    memory_after: float = 0.0
    leaked: dict[str, tuple[int, int]] = field(default_factory=dict)
    """What there was more of in the end than at first."""
    wrong: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        return self.memory_after / self.memory_before - 1

    def __str__(self) -> str:
        return (
            f"{self.seconds:.0f} s, {self.viewers} viewers at a time, {self.connections} connections, "
            f"{self.frames} frames, {self.changes} changes of size or options, {self.megabytes:.0f} MB to viewers\n"
            f"memory {self.memory_before:.1f} MB after warm-up, {self.memory_after:.1f} MB at the end: "
            f"{100 * self.growth:+.1f} %\nleaked: {self.leaked or 'nothing'}\nwrong: {self.wrong or 'nothing'}"
        )


class Publisher:
    """Publishes into one stream, on a thread of its own, now moving and now at rest, and changes its options."""

    def __init__(self, display: rfb.Display, seed: int) -> None:
        self.display = display
        self.frames = self.changes = 0
        self._dice = random.Random(seed)
        self._size = SIZES[0]
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def picture(self, step: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        width, height = self._size
        y, x = np.mgrid[:height, :width]
        planes = [x + 3 * step, y + 2 * step, (x // 9 + y // 7) % 2 * 90 + step]
        return (np.stack(planes, axis=-1) % 256).astype(np.uint8)

    def end(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The last picture that is published."""
        self.ended.set()
        self._thread.join()
        self._size = SIZES[1]
        self.display.configure(quality="auto", bitrate=100_000_000, max_inflight=2)
        self.display.publish(last := self.picture(1))
        return last

    def _run(self) -> None:
        while not self.ended.wait(1 / 15):
            self.frames += 1
            if self._dice.random() < 0.03:
                self.ended.wait(0.5)
            if self._dice.random() < 0.01:
                self._change()
            self.display.publish(self.picture(self.frames))
            self.display.poll_events()

    def _change(self) -> None:
        self.changes += 1
        if self._dice.random() < 0.5:
            self._size = self.display.target_size or self._dice.choice(SIZES)
            return
        change = self._dice.choice(CHANGES)
        if "quality" not in change or self.display.name != "exact":
            self.display.configure(**change)


def count_all(server: rfb.Server) -> dict[str, int]:
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    return {
        "threads": sum(not thread.name.startswith("rfb-encoder") for thread in threading.enumerate()),
        "tasks": hub_of(server).on_hub(lambda now: len(asyncio.all_tasks())),
        "files and sockets": files,
    }


def soak(seconds: float = 600, viewers: int = 20) -> Report:
    """Let *viewers* come and go for so long, and see what is left."""
    report = Report(seconds, viewers)
    server = rfb.serve_server(port=0, limits=Limits(handshakes=viewers + 8))
    displays = [server.add_stream(name, *SIZES[0], **options) for name, options in STREAMS.items()]
    before = count_all(server)
    publishers = [Publisher(display, seed) for seed, display in enumerate(displays)]
    address = displays[0].ws_url.rpartition("/")[0], server.token, server.view_token, viewers
    crowd = subprocess.Popen(
        [sys.executable, __file__, "viewers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert crowd.stdin
    crowd.stdin.write(json.dumps(address) + "\n")
    crowd.stdin.flush()
    try:
        _measure(report, seconds)
        report.frames = sum(publisher.frames for publisher in publishers)
        report.changes = sum(publisher.changes for publisher in publishers)
        _compare(report, crowd, {display.name: one.end() for display, one in zip(displays, publishers, strict=True)})
        crowd.communicate(timeout=300)
        for display in displays:
            wait_for(lambda display=display: display.client_count == 0, "the viewers to go")  # type: ignore[misc]
            display.configure(codec="none")
        gc.collect()
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not _more(before, count_all(server)), "all to be gone", 60)
        report.leaked = _more(before, count_all(server))
    finally:
        for publisher in publishers:
            publisher.ended.set()
        crowd.kill()
        crowd.wait()
        server.close()
    return report


def _more(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int]]:
    return {name: (before[name], after[name]) for name in before if after[name] > before[name]}


def _measure(report: Report, seconds: float) -> None:
    """The memory once warm, in the third tenth of the time, and in the last."""
    memory: list[float] = []
    start = time.monotonic()
    while (left := start + seconds - time.monotonic()) > 0:
        time.sleep(min(left, 0.5))
        memory.append(psutil.Process().memory_info().rss / 1e6)
    tenth = max(1, len(memory) // 10)
    report.memory_before, report.memory_after = median(memory[2 * tenth : 3 * tenth]), median(memory[-tenth:])


def _compare(report: Report, crowd: subprocess.Popen[str], last: dict[str, np.ndarray[Any, Any]]) -> None:
    """Have the viewers, all of them well-behaved now, say how far their canvases are from *last*."""
    assert crowd.stdin
    assert crowd.stdout
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last.npz"
        np.savez(path, **last)
        crowd.stdin.write(f"{path}\n")
        crowd.stdin.flush()
        answer = crowd.stdout.readline()
    assert answer, f"the viewers' process ended with {crowd.wait()}"
    said = json.loads(answer)
    report.wrong, report.connections, report.megabytes = said["wrong"], said["connections"], said["bytes"] / 1e6


# The viewers' process -------------------------------------------------------------------------------------------------


@dataclass
class Crowd:
    """Who all viewers are, and what they know in common."""

    base: str
    token: str
    view_token: str
    dice: random.Random = field(default_factory=lambda: random.Random(3))
    connections: int = 0
    bytes: int = 0
    last: asyncio.Event = field(default_factory=asyncio.Event)
    """The last pictures are published; from now on all viewers stay."""
    lost: WeakSet[ModelCanvas] = field(default_factory=WeakSet)
    """Canvases whose decoder is new, and waits for a keyframe."""
    stayed: list[asyncio.Future[None]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def visitor(self, number: int) -> tuple[str, tuple[str, ...], ModelCanvas]:
        """Comes and goes until the last picture is there, and then stays: the stream, what it takes, its canvas."""
        while not self.last.is_set():
            way = self.dice.choice((self.watches, self.watches, self.watches, self.dawdles, self.vanishes, self.sins))
            try:
                await way(self.dice.choice(list(STREAMS)), self.dice.choice(KINDS))
            except (ConnectionClosed, OSError, TimeoutError):
                pass
            except Exception as error:
                self.failures.append(f"viewer {number}: {error!r}")
            await asyncio.sleep(0.05)
        return await self.stays(number)

    async def open(self, stream: str, supported: tuple[str, ...], token: str = "") -> ClientConnection:
        self.connections += 1
        socket = await connect(f"{self.base}/{stream}", compression=None, max_size=None)
        hello = {"type": "hello", "supported": supported, "token": token or self.token}
        await socket.send(json.dumps(hello))
        return socket

    async def watches(self, stream: str, supported: tuple[str, ...], slow: float = 0.0) -> None:
        """A well-behaved viewer, which moves its mouse, resizes, hides and loses its decoder now and then."""
        token = self.dice.choice((self.token, self.token, self.view_token))
        async with await self.open(stream, supported, token) as socket:
            canvas = ModelCanvas()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.dice.uniform(0.5, 8)):
                    while not self.last.is_set():
                        await self.take(socket, canvas, slow)
                        await self.chat(socket, canvas)

    async def dawdles(self, stream: str, supported: tuple[str, ...]) -> None:
        await self.watches(stream, supported, slow=self.dice.uniform(0.05, 1))

    async def vanishes(self, stream: str, supported: tuple[str, ...]) -> None:
        """Reads nothing, or something, and is gone without a word."""
        socket = await self.open(stream, supported)
        await asyncio.sleep(self.dice.uniform(0, 2))
        socket.transport.abort()

    async def sins(self, stream: str, supported: tuple[str, ...]) -> None:
        """Is closed for what it says."""
        token = self.dice.choice(("wrong", self.token))
        async with await self.open(self.dice.choice((stream, "nowhere")), supported, token) as socket:
            await socket.send(self.dice.choice(("[" * 50_000, "{}", b"\0" * 99, '{"type":"ack","seq":99999}')))
            async for _ in socket:
                pass

    async def take(self, socket: ClientConnection, canvas: ModelCanvas, slow: float = 0.0) -> None:
        message = await socket.recv()
        self.bytes += len(message)
        if isinstance(message, str):
            if (parsed := json.loads(message))["type"] == "config":
                canvas.config = parsed
            return
        header, payload = unpack_binary_message(message)
        if canvas in self.lost and header["type"] == "video_chunk" and not header["keyframe"]:
            return  # it was on the way when the decoder was lost
        self.lost.discard(canvas)
        canvas.take(header, payload)
        await asyncio.sleep(slow)
        await socket.send(json.dumps({"type": "ack", "seq": header["seq"], "decode_queue_size": 0, "draw_ms": 2}))

    async def chat(self, socket: ClientConnection, canvas: ModelCanvas) -> None:
        if self.dice.random() < 0.2:
            await socket.send(json.dumps({"type": "event", "event": self.dice.choice(EVENTS)}))
        if self.dice.random() < 0.03:
            width, height = self.dice.choice(SIZES)
            box = {"width": width, "height": height, "pwidth": width, "pheight": height, "ratio": 1}
            await socket.send(json.dumps({"type": "set_viewport", **box}))
        if self.dice.random() < 0.02:
            canvas.lose()
            self.lost.add(canvas)
            await socket.send('{"type":"decoder_reset"}')

    async def stays(self, number: int) -> tuple[str, tuple[str, ...], ModelCanvas]:
        stream, supported = list(STREAMS)[number % len(STREAMS)], KINDS[number % len(KINDS)]
        if supported[0] == VIDEO:
            stream = "video"  # of nothing else is there any for it
        canvas = ModelCanvas()
        socket = await self.open(stream, supported)
        self.stayed.append(asyncio.ensure_future(self._draw(socket, canvas)))
        return stream, supported, canvas

    async def _draw(self, socket: ClientConnection, canvas: ModelCanvas) -> None:
        while True:
            await self.take(socket, canvas)


async def crowd_of(base: str, token: str, view_token: str, count: int) -> None:
    """*count* viewers until a line says where the last pictures are; then, in a line, how near they came."""
    crowd = Crowd(base, token, view_token)
    visitors = [asyncio.ensure_future(crowd.visitor(number)) for number in range(count)]
    path = (await asyncio.to_thread(sys.stdin.readline)).strip()
    crowd.last.set()
    last = dict(np.load(path))
    stayed = await asyncio.gather(*visitors)

    def wrong() -> list[str]:
        return [text for stream, kind, canvas in stayed if (text := _error(last[stream], stream, kind, canvas))]

    with contextlib.suppress(TimeoutError):
        await asyncio.to_thread(wait_for, lambda: not wrong(), "every viewer to be exact", 30)
    said = {"wrong": crowd.failures + wrong(), "connections": crowd.connections, "bytes": crowd.bytes}
    print(json.dumps(said), flush=True)
    for drawing in crowd.stayed:
        drawing.cancel()


def _error(wanted: Any, stream: str, kind: tuple[str, ...], canvas: ModelCanvas) -> str:
    """What is wrong with *canvas*, in words. Who takes no PNG ends near the picture, all others on it."""
    if canvas.pixels.shape != rgb(wanted).shape:
        return f"{stream}, {kind}: {canvas.pixels.shape} in place of {wanted.shape}"
    exact, mean = "image/png" in kind, float(np.abs(canvas.pixels.astype(int) - rgb(wanted)).mean())
    if (exact and canvas.error(wanted) > 0) or mean > 12:
        return f"{stream}, {kind}: {mean:.2f} from the picture on average"
    return ""


def main() -> None:
    if sys.argv[1:2] == ["viewers"]:
        asyncio.run(crowd_of(*json.loads(sys.stdin.readline())))
        return
    report = soak(*map(int, sys.argv[1:]))
    print(report)
    sys.exit(bool(report.wrong or report.leaked or report.growth > 0.05))


if __name__ == "__main__":
    main()
