"""Viewers that draw nothing, in a process of their own: they receive, acknowledge and count payloads.

Run as ``python -m pdum_rfb_widget.benchmark.clients``. The first line of its input is a JSON object with the task (see
`main`); it responds to every further line with a line of counts, and ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect

if TYPE_CHECKING:
    from ..display import Display

FORMATS = ("image/jpeg", "image/png", "rfb/tiles")
VIDEO_FORMATS = (*FORMATS, "webcodecs/h264-annexb")


@dataclass(slots=True)
class Count:
    """Counts of one viewer."""

    payloads: int = 0
    bytes: int = 0
    frames: int = 0
    """Published frames for which at least one payload arrived."""
    keyframes: int = 0
    """Keyframes of video."""


class Clients:
    """The parent's side: several viewers of a display, in another process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def counts(self) -> list[Count]:
        """The counts of each viewer since it connected; a misbehaving one is the last."""
        return [Count(**count) for count in self._ask("counts")]

    def _ask(self, question: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process of the raw viewers has ended")
        return json.loads(line)


@contextmanager
def clients(
    display: Display,
    count: int,
    *,
    formats: Sequence[str] = FORMATS,
    stopped: bool = False,
    most_per_s: float | None = None,
) -> Iterator[Clients]:
    """Start *count* viewers of *display* that accept *formats*, and wait until the hub has admitted them.

    The last one reads nothing after its hello if *stopped*, and at most *most_per_s* payloads per second if given.
    """
    hello = hello_of(display, formats)
    with clients_at(display.ws_url, hello, count, stopped=stopped, most_per_s=most_per_s) as viewers:
        yield viewers


@contextmanager
def clients_at(
    url: str, hello: str, count: int, *, stopped: bool = False, most_per_s: float | None = None
) -> Iterator[Clients]:
    """Start *count* viewers that say *hello* at *url*, and wait until each was answered; see `clients`."""
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        viewers = Clients(process)
        task = {"url": url, "hello": hello, "count": count, "stopped": stopped, "most_per_s": most_per_s}
        viewers._ask(json.dumps(task))
        try:
            yield viewers
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def hello_of(display: Display, formats: Sequence[str] = FORMATS) -> str:
    """The hello of a viewer of *display* that accepts *formats*."""
    token = display.server.token
    return json.dumps({"type": "hello", "supported": list(formats), "device_pixel_ratio": 1.0, "token": token})


def header_of(message: bytes) -> dict[str, Any]:
    """The header of a payload."""
    # Only the header: with eight viewers, copying every payload would use up this core.
    header: dict[str, Any] = json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])
    return header


def ack_of(header: dict[str, Any]) -> str:
    """The acknowledgement of the payload with this *header*."""
    return json.dumps({"type": "ack", "seq": header["seq"], "decode_queue_size": 0, "displayed": True})


# The other process ----------------------------------------------------------------------------------------------------


async def main() -> None:
    """Run viewers as the first line of the input describes: url, hello, count, stopped, most_per_s."""
    task = json.loads(await _line())
    counts = [Count() for _ in range(task["count"])]
    viewers = [asyncio.ensure_future(_open(task)) for _ in counts]
    connections = await asyncio.gather(*viewers)
    reading = [
        asyncio.ensure_future(_take(connection, count, task["most_per_s"] if count is counts[-1] else None))
        for connection, count in zip(connections, counts, strict=True)
    ]
    if task["stopped"]:
        reading[-1].cancel()
        connections[-1].transport.pause_reading()
    while True:
        print(json.dumps([asdict(count) for count in counts]), flush=True)
        if not await _line():
            break
    for connection in connections:
        connection.transport.abort()
    await asyncio.gather(*reading, return_exceptions=True)


async def _line() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


async def _open(task: dict[str, Any]) -> ClientConnection:
    """Connect a viewer: send hello and wait for the response."""
    connection = await connect(task["url"], compression=None, max_size=None, max_queue=4)
    await connection.send(task["hello"])
    await connection.recv()
    return connection


async def _take(connection: ClientConnection, count: Count, most_per_s: float | None) -> None:
    newest = None
    async for message in connection:
        if isinstance(message, str):
            continue
        header = header_of(message)
        count.payloads += 1
        count.bytes += len(message)
        count.frames += header["timestamp_us"] != newest
        count.keyframes += header.get("keyframe", False)
        newest = header["timestamp_us"]
        if most_per_s:
            await asyncio.sleep(1 / most_per_s)
        await connection.send(ack_of(header))


if __name__ == "__main__":
    asyncio.run(main())
