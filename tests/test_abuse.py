"""Slow, dead and hostile viewers on real sockets: each is closed with a code and words, or costs little and is borne;
a healthy viewer of the same stream meanwhile sees every single frame, and who publishes never waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import socket
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest
from conftest import Skip
from hosts import wait_for
from inside import hub_of
from test_asgi import mounted
from viewers import RawViewer, closed, grey, unacknowledged, value_of
from websockets.exceptions import ConnectionClosed

import pdum_rfb_widget as rfb
from pdum_rfb_widget._core import window
from pdum_rfb_widget.limits import Limits

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
NOISE = np.random.default_rng(5).integers(0, 256, (480, 640, 3), np.uint8)


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv: int = 0, mask: bool = True) -> bytes:
    """A WebSocket frame of a client, right or wrong; its mask is zeros."""
    size = len(payload)
    length, more = size, b""
    if size > 125:
        length, more = (126, struct.pack(">H", size)) if size < 65536 else (127, struct.pack(">Q", size))
    return bytes([fin << 7 | rsv << 4 | opcode, mask << 7 | length]) + more + b"\0" * 4 * mask + payload


class Wire:
    """A connection that sends what a test wants, byte by byte if it does. A context manager that leaves."""

    def __init__(self, display: rfb.Display, *, upgrade: bool = True, hello: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", display.port), timeout=60)
        self._display = display
        if upgrade:
            self.send(b"GET /default HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
            self.send(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"A" * 22 + b"==\r\n")
            self.send(b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
            self.head = b""
            while b"\r\n\r\n" not in self.head:
                self.head += self.socket.recv(1)
            assert b" 101 " in self.head
        if upgrade and hello:
            before = display.client_count
            self.send(frame(self.hello))
            wait_for(lambda: display.client_count > before, "the viewer")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    @property
    def hello(self) -> bytes:
        return json.dumps({"type": "hello", "supported": ["image/png"], "token": self._display.server.token}).encode()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def push(self, data: bytes, times: int = 1) -> None:
        """Send as much as the hub takes, until it has had enough."""
        with contextlib.suppress(ConnectionError):
            for _ in range(times):
                self.socket.sendall(data)

    def dripped(self, data: bytes, after: Callable[[], None]) -> bool:
        """Send *data* a byte at a time, with *after* behind each, until it is over: whether it came to that."""
        for byte in data:
            try:
                self.socket.sendall(bytes([byte]))
            except ConnectionError:
                return False
            after()
            self.socket.settimeout(0.01)
            try:
                if self.socket.recv(1, socket.MSG_PEEK) in (b"", b"\x88"):
                    return False
            except TimeoutError:
                pass
            except ConnectionError:
                return False
            self.socket.settimeout(60)
        return True

    def end(self) -> tuple[int, str]:
        """Code and reason of the hub's close; 0 where the connection ended without one."""
        self.socket.settimeout(60)
        with contextlib.suppress(ConnectionError):
            while head := self._take(2):
                size = head[1]
                if size > 125:
                    size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
                payload = self._take(size)
                if head[0] & 15 == CLOSE:
                    return int.from_bytes(payload[:2], "big"), payload[2:].decode()
        return 0, ""

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self.socket.recv(size - len(data))):
            data += more
        return data


@pytest.fixture
def healthy(display: rfb.Display) -> Iterator[Callable[[int], None]]:
    """Publishes so many frames, each once the one before is seen: the healthy viewer sees every one of them."""
    with RawViewer(display) as viewer:
        viewer.greet()

        def sees(frames: int) -> None:
            for number in range(frames):
                value = 20 + 2 * number % 200
                display.publish(grey(value))
                assert abs(value_of(viewer.see()[1]) - value) <= 2
                display.publish(grey(0))
                assert value_of(viewer.see()[1]) <= 2
            wait_for(lambda: unacknowledged(display)[0] == 0, "the hub to hear the last acknowledgement")

        sees(1)
        yield sees
        sees(5)
        assert display.status()["clients"][0]["frames_dropped"] == 0


Sees = Callable[[int], None]


@pytest.fixture
def frugal() -> None:
    """A hub whose viewers may say so little that any machine can send too much; to be asked for before the display."""
    rfb.serve_server(port=0, limits=Limits(bytes_per_second=20_000))


# Dead and slow ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"GET /default HTTP/1.1\r\nHost: local"])
def test_a_request_that_never_ends_is_cut(display: rfb.Display, skip: Skip, healthy: Sees, said: bytes) -> None:
    with Wire(display, upgrade=False) as wire:
        wire.send(said)
        healthy(5)
        skip(11)
        assert wire.end()[0] == 0


def test_a_request_of_a_byte_now_and_then_is_cut(display: rfb.Display, skip: Skip, healthy: Sees) -> None:
    with Wire(display, upgrade=False) as wire:
        assert not wire.dripped(b"GET /default HTTP/1.1\r\n" + b"X: y\r\n" * 100, lambda: skip(1))
        healthy(5)


@pytest.mark.parametrize("said", [b"", frame(b"{}")[:3], frame(b'{"type":', fin=False), frame(b"", PING)])
def test_who_never_says_hello_is_4408(display: rfb.Display, skip: Skip, healthy: Sees, said: bytes) -> None:
    with Wire(display, hello=False) as wire:
        wire.send(said)
        healthy(5)
        skip(11)
        code, reason = wire.end()
        assert (code, reason[:15]) == (4408, "no hello within")


def test_a_hello_of_a_byte_now_and_then_is_4408(display: rfb.Display, skip: Skip, healthy: Sees) -> None:
    with Wire(display, hello=False) as wire:
        assert not wire.dripped(frame(wire.hello), lambda: skip(1))
        healthy(5)
        assert wire.end()[0] == 4408


@pytest.mark.parametrize("said", [frame(b'{"type":"ack","seq":1}')[:-3], frame(b'{"type":', fin=False)])
def test_half_a_message_and_then_silence_is_4408_once_an_answer_is_owed(
    display: rfb.Display, skip: Skip, healthy: Sees, said: bytes
) -> None:
    with Wire(display) as wire:
        wire.send(said)
        healthy(5)
        wait_for(lambda: unacknowledged(display)[1], "a payload that it owes an answer for")
        skip(31)
        assert wire.end() == (4408, "nothing was acknowledged for 30 s")


def test_who_reads_a_byte_now_and_then_is_dropped(display: rfb.Display, skip: Skip) -> None:
    with RawViewer(display) as good, Wire(display) as wire:
        good.greet()
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        display.publish(np.tile(NOISE, (4, 4, 1)))
        assert good.see()[0]["width"] == 2560
        wait_for(lambda: [count > 0 for count in unacknowledged(display)] == [False, True], "the good one's answer")
        skip(31)

        def dropped() -> bool:
            wire.socket.recv(1)
            return display.client_count == 1

        wait_for(dropped, "the slow reader to be dropped")
        for value in (40, 90, 160):
            display.publish(grey(value))
            assert abs(value_of(good.see()[1]) - value) <= 2


def test_who_acknowledges_one_payload_again_and_again_gets_no_more_for_it(
    display: rfb.Display, healthy: Sees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "PROBE_AFTER", 30.0)
    display.configure(max_inflight=2)
    with RawViewer(display) as viewer:
        viewer.greet()
        seq = viewer.see()[0]["seq"]
        for _ in range(200):
            viewer.ack(seq)
        healthy(10)
        assert [viewer.see(ack=False)[0]["seq"] for _ in range(2)] == [seq + 1, seq + 2]
        with pytest.raises(TimeoutError):  # two may be on the way
            viewer.see(timeout=0.3)


# Hostile: closed with a code ----------------------------------------------------------------------------------------

DEEP = b'{"type":"event","event":' + b"[" * 60_000
BOMB = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMBED = BOMB.compress(b"[" * 50_000_000) + BOMB.flush(zlib.Z_SYNC_FLUSH)

SINS: dict[str, tuple[bytes, int]] = {
    "60,000 brackets": (frame(DEEP), 4400),
    "NaN": (frame(b'{"type":"ack","seq":NaN}'), 4400),
    "Infinity": (frame(b'{"type":"set_viewport","width":Infinity,"height":1,"pwidth":1,"pheight":1,"ratio":1}'), 4400),
    "a number of 60,000 digits": (frame(b'{"type":"ack","seq":' + b"9" * 60_000 + b"}"), 4400),
    "1e999": (frame(b'{"type":"ack","seq":1,"draw_ms":1e999}'), 4400),
    "an acknowledgement of what was not sent": (frame(b'{"type":"ack","seq":9007199254740991}'), 4400),
    "a negative acknowledgement": (frame(b'{"type":"ack","seq":-1}'), 4400),
    "an event of another type": (frame(b'{"type":"event","event":"pointer_down"}'), 4400),
    "a list": (frame(b"[1,2]"), 4400),
    "an array of bytes": (frame(secrets.token_bytes(1000), BINARY), 4400),
    "no UTF-8": (frame(b'"\xff\xfe"'), 1007),
    "a message of 3 MB": (frame(b"x" * 3_000_000), 4429),
    "a frame that says it has 2^62 bytes": (b"\x81\xff" + struct.pack(">Q", 1 << 62) + b"\0" * 4, 4429),
    "pieces that are too much together": (frame(b"x" * 60_000, fin=False) + frame(b"x" * 60_000, 0), 4429),
    "100,000 pieces of nothing": (frame(b"[", fin=False) + frame(b"", 0, fin=False) * 100_000, 4429),
    "a compressed bomb": (frame(BOMBED[:60_000], rsv=4), 1002),
    "no mask": (frame(b"{}", mask=False), 1002),
    "a continuation of nothing": (frame(b"{}", 0), 1002),
    "an opcode that there isn't": (frame(b"{}", 5), 1002),
    "a ping of 10,000 bytes": (frame(b"x" * 10_000, PING), 1002),
    "HTTP in the middle": (b"GET / HTTP/1.1\r\n\r\n" * 50, 1002),
}


@pytest.mark.parametrize("sin", SINS)
@pytest.mark.parametrize("greeted", [True, False])
def test_a_hostile_message_is_closed_with_its_code_and_words(
    display: rfb.Display, skip: Skip, healthy: Sees, sin: str, greeted: bool
) -> None:
    data, wanted = SINS[sin]
    with Wire(display, hello=greeted) as wire:
        wire.push(data)
        code, reason = wire.end()
        assert code == wanted
        assert len(reason) > 8, "words"
        healthy(3)
    skip(3)  # past the hub's wait for an answer to its close
    wait_for(lambda: display.client_count == 1, "the hostile viewer to be gone")


def test_no_compression_is_agreed_on_whatever_is_offered(display: rfb.Display) -> None:
    with Wire(display) as wire:
        assert b"deflate" not in wire.head


def test_garbage_of_any_kind_ends_the_connection_and_nothing_else(
    display: rfb.Display, healthy: Sees, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(7)
    for number in range(150):
        with Wire(display, upgrade=number % 3 > 0, hello=number % 3 > 1) as wire:
            wire.push(dice.randbytes(dice.choice([1, 2, 10, 500, 70_000])))
            with contextlib.suppress(OSError):
                wire.socket.shutdown(socket.SHUT_WR)
            wire.end()
    healthy(3)
    wait_for(lambda: display.client_count == 1, "all of them to be gone")
    assert not [record for record in caplog.records if record.exc_info], "none of it is an error of the hub"


# Hostile: borne, within bounds --------------------------------------------------------------------------------------


def test_a_flood_of_events_is_cut_while_others_are_served(frugal: None, display: rfb.Display, healthy: Sees) -> None:
    display.configure(event_queue_size=50)
    event = frame(b'{"type":"event","event":{"type":"pointer_move","x":1,"y":1}}')
    with Wire(display) as wire:
        wire.push(event * 100)
        healthy(3)
        wire.push(event * 1000, 10)
        assert wire.end() == (4429, "the viewer sends more than it may for long")
    assert len(display.poll_events()) == 50


@pytest.mark.parametrize("message", ["request_keyframe", "decoder_reset"])
def test_who_wants_everything_again_and_again_costs_the_others_no_frame(
    display: rfb.Display, healthy: Sees, message: str
) -> None:
    with Wire(display) as wire:
        wire.push(frame(json.dumps({"type": message}).encode()) * 3000)
        healthy(5)


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.mark.parametrize("reads", [True, False])
def test_pings_beyond_number_are_cut_and_their_answers_do_not_pile_up(
    display: rfb.Display, healthy: Sees, reads: bool
) -> None:
    pings = frame(b"x" * 125, PING) * 1000
    with Wire(display) as wire:
        wire.push(pings)
        before = resident()
        wire.socket.settimeout(5)
        with contextlib.suppress(TimeoutError):
            wire.push(pings, 500)
        if reads:
            assert wire.end()[0] == 4429
        assert resident() - before < 20_000_000, "of 65 MB that it meant to send"
        healthy(3)
    wait_for(lambda: display.client_count == 1, "the viewer to be gone")


@pytest.mark.slow
def test_a_hundred_viewers_that_never_read_hold_a_frame_each_at_most() -> None:
    display = rfb.serve_server(port=0, limits=Limits(viewers_per_stream=101)).add_stream("default", 640, 480)
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(Wire(display)).socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        viewer = stack.enter_context(RawViewer(display, "image/png"))
        viewer.greet()
        for step in range(5):
            display.publish(NOISE + np.uint8(step))
            viewer.see()
        before = resident()
        for step in range(40):
            display.publish(NOISE + np.uint8(step + 9))
            viewer.see()
        assert resident() - before < 50_000_000, "of 3.7 GB that were published for them"


def test_a_storm_of_connections_leaves_nothing_behind(display: rfb.Display, healthy: Sees) -> None:
    server = display.server
    healthy(1)
    tasks = hub_of(server).on_hub(lambda now: len(asyncio.all_tasks()))
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    abrupt = struct.pack("ii", 1, 0)
    for number in range(400):
        wire = Wire(display, upgrade=number % 4 > 0, hello=False)
        if number % 4 > 1:
            wire.push(frame(wire.hello))
        if number % 2:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abrupt)
        wire.socket.close()
    healthy(3)
    wait_for(lambda: display.client_count == 1 and not display.status()["pending"], "all to be gone")
    wait_for(lambda: hub_of(server).on_hub(lambda now: len(asyncio.all_tasks())) <= tasks, "their tasks to be gone")
    if files:
        wait_for(lambda: len(os.listdir("/proc/self/fd")) <= files, "their sockets to be closed")


def test_a_storm_that_is_not_let_in_is_closed_with_words_and_ends(display: rfb.Display, healthy: Sees) -> None:
    rfb.serve_server(port=0, limits=Limits(viewers_per_hub=8))
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(display, hello=False)) for _ in range(80)]
        refused = [wire.end() for wire in wires[72:]]
        assert set(refused) == {(4429, "64 connections have not said hello yet, and too many wait")}
        healthy(3)


# In an application of one's own ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (["[" * 60_000], 4400),
        ([b"\0" * 100], 4400),
        (["x" * 70_000], 4429),
        (['{"type":"ack","seq":99}'], 4400),
        (['{"type":"event","event":{"type":"pointer_move","x":1,"y":1}}'] * 1000, 4429),
        ([], 4408),
    ],
)
def test_the_same_limits_hold_where_an_applications_server_has_the_socket(
    frugal: None,
    display: rfb.Display,
    skip: Skip,
    healthy: Sees,
    said: list[str | bytes],
    code: int,
) -> None:
    with mounted(display) as url, RawViewer(display, url=url, token=display.server.token) as viewer:
        if said:
            viewer.greet()
        with contextlib.suppress(ConnectionClosed):
            for message in said:
                viewer.socket.send(message)
        healthy(2)
        if not said:
            skip(11)
        assert closed(viewer)[0] == code
