"""Who gets in, and what bad viewers get: a code and a reason, while nobody else notices."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Skip
from hosts import wait_for
from inside import hub_of
from viewers import RawViewer, closed, get, grey, unacknowledged, value_of
from websockets.exceptions import ConnectionClosed

import pdum_rfb_widget as rfb
from pdum_rfb_widget._encode import jobs
from pdum_rfb_widget._frames import store
from pdum_rfb_widget.limits import Limits
from pdum_rfb_widget.transport import LimitedConnection

# Who gets in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "wrong", "\u2603" * 40])
def test_a_wrong_token_is_4401(display: rfb.Display, token: str) -> None:
    with RawViewer(display, token=token) as viewer:
        viewer.say(**viewer.hello)
        assert closed(viewer) == (4401, "the token is not this hub's")


def test_a_missing_token_is_4401(display: rfb.Display) -> None:
    with RawViewer(display) as viewer:
        viewer.say(type="hello", supported=["image/jpeg"])
        assert closed(viewer)[0] == 4401


def test_an_unknown_stream_is_4404_but_only_for_those_with_the_token(display: rfb.Display) -> None:
    for token, code in ((display.server.token, 4404), ("wrong", 4401)):
        url = display.ws_url.replace("default", "nowhere")
        with RawViewer(display, token=token) as viewer:
            viewer.connect(url)
            viewer.say(**viewer.hello)
            assert closed(viewer)[0] == code


def test_a_hello_to_a_display_that_was_closed_meanwhile_is_4404(display: rfb.Display) -> None:
    with RawViewer(display) as viewer:
        display.close()
        viewer.say(**viewer.hello)
        assert closed(viewer)[0] == 4404


def test_no_common_format_is_4406(display: rfb.Display) -> None:
    with RawViewer(display, "image/avif") as viewer:
        viewer.say(**viewer.hello)
        code, reason = closed(viewer)
        assert code == 4406
        assert "image/jpeg" in reason


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://localhost:8888", True),
        ("http://127.0.0.1:1234", True),
        ("https://[::1]:8888", True),
        ("http://127.9.9.9", True),
        ("vscode-webview://abc", True),
        ("https://evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("null", False),
        ("file://", False),
        ("http://[", False),
        ("https://friend.example", True),
    ],
)
def test_pages_of_other_machines_are_4403_unless_allowed(origin: Any, allowed: bool) -> None:
    display = rfb.serve(8, 8, port=0, origins=["https://friend.example"])
    with RawViewer(display, origin=origin) as viewer:
        if allowed:
            assert viewer.greet()["type"] == "config"
        else:
            assert closed(viewer)[0] == 4403


def test_a_page_whose_name_was_bound_to_this_machine_is_4403(display: rfb.Display) -> None:
    host = f"evil.example:{display.port}"
    with RawViewer(display) as viewer, socket.create_connection(("127.0.0.1", display.port)) as bound:
        viewer.connect(f"ws://{host}/default", origin=f"http://{host}", sock=bound)
        assert closed(viewer)[0] == 4403


# Bad viewers --------------------------------------------------------------------------------------------------------


def garbage(viewer: RawViewer) -> None:
    viewer.socket.send("{]")


def binary(viewer: RawViewer) -> None:
    viewer.socket.send(b"\x00" * 100)


def ten_megabytes(viewer: RawViewer) -> None:
    viewer.socket.send("x" * 10_000_000)


def never_sent(viewer: RawViewer) -> None:
    viewer.ack(10_000)


def bad_event(viewer: RawViewer) -> None:
    viewer.say(type="event", event={"type": "pointer_move", "x": "left", "y": 0})


@pytest.mark.parametrize(
    ("sin", "code"), [(garbage, 4400), (binary, 4400), (never_sent, 4400), (bad_event, 4400), (ten_megabytes, 4429)]
)
@pytest.mark.parametrize("greeted", [True, False])
def test_a_bad_viewer_is_closed_with_words_and_nobody_else_notices(
    display: rfb.Display, sin: Callable[[RawViewer], None], code: int, greeted: bool
) -> None:
    with RawViewer(display) as good, RawViewer(display) as bad:
        good.greet()
        if greeted:
            bad.greet()
        sin(bad)
        got, reason = closed(bad)
        assert got == code
        assert len(reason) > 10
        display.publish(grey(200))
        assert value_of(good.see()[1]) == 200


def test_no_hello_is_4408(display: rfb.Display, skip: Skip) -> None:
    with RawViewer(display) as viewer:
        wait_for(lambda: display.status()["pending"], "the hub to wait for the hello")
        skip(11)
        assert closed(viewer) == (4408, "no hello within 10 s")


def test_no_hello_is_4408_also_once_the_display_was_closed(display: rfb.Display, skip: Skip) -> None:
    display.server.add_stream("other", 8, 8)
    with RawViewer(display) as viewer:
        wait_for(lambda: display.status()["pending"], "the hub to wait for the hello")
        display.close()
        skip(11)
        assert closed(viewer) == (4408, "no hello within 10 s")


@pytest.mark.parametrize("reads", [True, False])
def test_a_viewer_that_never_acks_is_4408_and_nobody_else_notices(
    display: rfb.Display, skip: Skip, reads: bool
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1080, 1920, 3), np.uint8)
    with RawViewer(display) as good, RawViewer(display, max_queue=1, close_timeout=0.1) as bad:
        good.greet()
        bad.greet()
        for step in range(4):
            display.publish(np.roll(noise, step, axis=0))
            good.see()
        wait_for(lambda: [count > 0 for count in unacknowledged(display)] == [False, True], "the good one's last word")
        skip(31)
        if reads:
            assert closed(bad) == (4408, "nothing was acknowledged for 30 s")
        wait_for(lambda: display.client_count == 1, "the silent viewer to be dropped")
        display.publish(grey(150))
        while abs(value_of(good.see()[1]) - 150) > 3:
            pass


def test_publishing_never_waits_for_a_viewer_that_never_reads(display: rfb.Display) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)
    with RawViewer(display, max_queue=1, close_timeout=0.1) as stuck:
        stuck.greet()
        for step in range(500):
            display.publish(noise[::-1] if step % 2 else noise)
        assert display.status()["frames_published"] == 500


def test_publishing_copies_once_and_encodes_elsewhere(display: rfb.Display, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[int] = []
    threads: list[int] = []
    copy, encode = np.copyto, jobs.encode_image
    monkeypatch.setattr(store.np, "copyto", lambda *args: (copies.append(args[1].nbytes), copy(*args))[1])
    monkeypatch.setattr(jobs, "encode_image", lambda p, f: (threads.append(threading.get_ident()), encode(p, f))[1])
    with RawViewer(display) as viewer:
        viewer.greet()
        frame = grey(3)
        display.publish(frame)
        viewer.see()
    assert copies == [frame.nbytes]
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_an_encoder_that_fails_is_1011_and_the_cause_is_in_the_log(
    display: rfb.Display, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("pdum_rfb_widget._encode.jobs.encode_image", broken)
    with RawViewer(display) as viewer:
        viewer.greet()
        display.publish(grey(1))
        assert closed(viewer)[0] == 1011
    assert "no room" in caplog.text


def test_a_frame_that_failed_to_encode_is_tried_again_for_the_next_viewer(
    display: rfb.Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, failures = jobs.encode_image, iter([True])

    def sometimes(pixels: Any, fidelity: Any) -> Any:
        if next(failures, False):
            raise MemoryError("just now")
        return encode(pixels, fidelity)

    monkeypatch.setattr(jobs, "encode_image", sometimes)
    display.publish(grey(9))
    with RawViewer(display) as first, RawViewer(display) as second:
        first.greet()
        assert closed(first)[0] == 1011
        second.greet()
        assert value_of(second.see()[1]) == 9


def test_who_has_not_said_hello_keeps_others_waiting_and_more_are_told_so(display: rfb.Display) -> None:
    rfb.serve_server(port=0, limits=Limits(handshakes=3, viewers_per_hub=2))
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(RawViewer(display)) for _ in range(3)]
        waiting = [stack.enter_context(RawViewer(display)) for _ in range(2)]
        one_more = stack.enter_context(RawViewer(display))
        assert closed(one_more) == (4429, "3 connections have not said hello yet, and too many wait")
        assert display.client_count == 0
        silent[0].greet()
        waiting[0].greet()
        assert display.client_count == 2


def test_a_hundred_viewers_that_come_at_once_are_all_served(display: rfb.Display) -> None:
    other = rfb.serve(64, 48, port=0, name="other")
    with contextlib.ExitStack() as stack:
        address = "127.0.0.1", display.port
        sockets = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(100)]
        wait_for(lambda: connected_to(display) == 100, "the hub to have taken them all, or to have cut some")
        viewers = [
            stack.enter_context(RawViewer((display, other)[number % 2], sock=connection))
            for number, connection in enumerate(sockets)
        ]
        for viewer in viewers:
            viewer.greet()
        assert (display.client_count, other.client_count) == (50, 50)


def connected_to(display: rfb.Display) -> int:
    hub = hub_of(display)
    return hub.on_hub(lambda now: len(LimitedConnection.connected(hub.loop)))


def test_beyond_what_a_stream_takes_the_limit_is_said_once_the_hub_has_proved_itself(display: rfb.Display) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(RawViewer(display)).greet()
        for _ in range(6):
            viewer = stack.enter_context(RawViewer(display))
            viewer.say(type="hello", supported=["rfb/proof"], device_pixel_ratio=1, nonce="00" * 16)
            viewer.hear("proof")
            viewer.say(**viewer.hello)
            assert closed(viewer) == (4429, "64 viewers look at 'default' already")


def test_limits_that_are_set_later_hold_for_what_is_open(display: rfb.Display) -> None:
    with RawViewer(display, "image/jpeg", "rfb/channels") as viewer:
        viewer.greet()
        rfb.serve_server(port=0, limits=Limits(message_bytes=500, channel_bytes=50, bytes_per_second=20_000))
        with pytest.raises(ValueError, match="50 bytes"):
            display.send("a", b"x" * 100)
        viewer.socket.send("x" * 501)
        assert closed(viewer) == (4429, "a message of a viewer holds at most 500 bytes")
    with RawViewer(display) as viewer:
        viewer.greet()
        rfb.serve_server(port=0, limits=Limits(bytes_per_second=100))
        with contextlib.suppress(ConnectionClosed):
            for _ in range(10):
                viewer.say(type="?")
        assert closed(viewer) == (4429, "the viewer sends more than it may for long")


def test_no_token_in_the_log(display: rfb.Display, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        with RawViewer(display) as viewer:
            viewer.greet()
        get(display, "/streams", display.server.token)
        get(display, f"/streams?token={display.server.token}")
    assert display.server.token not in caplog.text
