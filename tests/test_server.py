"""The hub on real sockets: who gets in, what the bad ones get, and that nobody else notices."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import RawViewer
from hosts import wait_for
from PIL import Image
from websockets.exceptions import ConnectionClosed

import pdum_rfb_widget as rfb
from pdum_rfb_widget import session


def grey(value: int, width: int = 64, height: int = 48) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((height, width, 3), value, np.uint8)


def value_of(payload: bytes) -> int:
    """The value of a `grey` picture."""
    return round(float(np.asarray(Image.open(io.BytesIO(payload)).convert("L")).mean()))


def closed(viewer: RawViewer, timeout: float = 10) -> tuple[int, str]:
    """Code and reason of the close that the viewer gets."""
    with pytest.raises(ConnectionClosed) as caught:
        read_on(viewer, timeout)
    received = caught.value.rcvd
    assert received is not None, "the connection broke off without a close"
    return received.code, received.reason


def read_on(viewer: RawViewer, timeout: float) -> None:
    while True:
        viewer.socket.recv(timeout=timeout)


# The main job -------------------------------------------------------------------------------------------------------


def test_a_viewer_sees_what_was_published_before_it_came(display: rfb.Display) -> None:
    display.publish(grey(77))
    with RawViewer(display) as viewer:
        config = viewer.greet()
        assert (config["transport"], config["width"], config["height"]) == ("image", 64, 48)
        header, payload = viewer.see()
        assert (header["type"], header["seq"], header["mime"]) == ("image_frame", 1, "image/jpeg")
        assert value_of(payload) == 77


def test_an_unchanged_stream_sends_nothing_more(display: rfb.Display) -> None:
    display.publish(grey(1))
    with RawViewer(display) as viewer:
        viewer.greet()
        viewer.see()
        with pytest.raises(TimeoutError):
            viewer.see(timeout=0.3)


def test_last_of_every_burst_arrives_at_viewers_quick_and_slow(display: rfb.Display) -> None:
    with RawViewer(display) as quick, RawViewer(display) as slow:
        quick.greet()
        slow.greet()
        for burst in range(50):
            last = 50 + burst * 4
            for _ in range(199):
                display.publish(grey(5))
            display.publish(grey(last))
            # The quick one reads and acknowledges at once, the slow one not before the burst is over.
            for viewer in (quick, slow):
                while value_of(viewer.see()[1]) != last:
                    pass


def test_size_changes_are_announced_before_the_frame(display: rfb.Display) -> None:
    display.publish(grey(1))
    with RawViewer(display) as viewer:
        viewer.greet()
        viewer.see()
        display.publish(grey(2, 31, 17))
        config = viewer.hear("config")
        header, payload = viewer.see()
        assert (config["width"], config["height"]) == (header["width"], header["height"]) == (31, 17)
        assert Image.open(io.BytesIO(payload)).size == (31, 17)
        assert (display.width, display.height) == (31, 17)


def test_equal_selections_share_one_encoding(display: rfb.Display, monkeypatch: pytest.MonkeyPatch) -> None:
    from pdum_rfb_widget import broadcast

    calls: list[str] = []
    encode = broadcast.encode_image
    monkeypatch.setattr(broadcast, "encode_image", lambda p, s: (calls.append(s.mime), encode(p, s))[1])
    viewers = [RawViewer(display) for _ in range(4)] + [RawViewer(display, "image/png")]
    for viewer in viewers:
        viewer.greet()
    display.publish(grey(9))
    for viewer in viewers:
        viewer.see()
        viewer.__exit__()
    assert sorted(calls) == ["image/jpeg", "image/png"]


@pytest.mark.parametrize("mode", ["png", "webp"])
def test_the_streams_format_is_taken_where_the_viewer_has_it(mode: str) -> None:
    display = rfb.serve(8, 8, port=0, image_mode=mode)
    display.publish(grey(3))
    with RawViewer(display, "image/jpeg", f"image/{mode}") as both, RawViewer(display, "image/jpeg") as one:
        both.greet()
        one.greet()
        assert both.see()[0]["mime"] == f"image/{mode}"
        assert one.see()[0]["mime"] == "image/jpeg"


def test_input_reaches_the_application_with_the_viewer_it_came_from(display: rfb.Display) -> None:
    with RawViewer(display) as first, RawViewer(display) as second:
        for key, viewer in (("a", first), ("b", second)):
            viewer.greet()
            viewer.say(type="event", event={"type": "key_down", "key": key, "code": "Key", "modifiers": []})
        events: list[rfb.InputEvent] = []
        wait_for(lambda: events.extend(display.poll_events()) or len(events) == 2, "two events")
    assert {event.event["key"] for event in events} == {"a", "b"}
    assert len({event.client_id for event in events}) == 2


def test_events_beyond_the_queue_push_out_the_oldest() -> None:
    display = rfb.serve(8, 8, port=0, event_queue_size=3)
    with RawViewer(display) as viewer:
        viewer.greet()
        for key in "abcde":
            viewer.say(type="event", event={"type": "key_down", "key": key})
        viewer.say(type="request_keyframe")
        display.publish(grey(1))
        viewer.see()
    assert [event.event["key"] for event in display.poll_events()] == ["c", "d", "e"]


# Readiness ----------------------------------------------------------------------------------------------------------


def test_wait_ready_follows_the_viewers(display: rfb.Display) -> None:
    assert display.wait_ready(0) is False
    with RawViewer(display) as viewer:
        viewer.greet()
        assert display.wait_ready(5) is True
        display.publish(grey(1))
        display.publish(grey(2))
        viewer.see()
        assert display.wait_ready(5) is True
        viewer.say(type="event", event={"type": "hide"})
        wait_for(lambda: not display.wait_ready(0), "hidden viewers not to count")
        viewer.say(type="event", event={"type": "show"})
        assert display.wait_ready(5) is True
        assert display.client_count == 1
    wait_for(lambda: not display.wait_ready(0), "the viewer to be gone")
    assert display.client_count == 0


def test_wait_ready_is_false_while_every_window_is_full(display: rfb.Display) -> None:
    with RawViewer(display) as viewer:
        viewer.greet()
        for value in range(2):
            assert display.wait_ready(5)
            display.publish(grey(value))
            viewer.see(ack=False)
        assert display.wait_ready(0.2) is False
        viewer.ack(2)
        assert display.wait_ready(5)


def test_wait_ready_returns_when_the_display_closes(display: rfb.Display) -> None:
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(display.wait_ready()))
    waiting.start()
    display.close()
    waiting.join(5)
    assert results == [False]


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
    with RawViewer(display, "webcodecs/h264-annexb") as viewer:
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


def test_no_hello_is_4408(display: rfb.Display, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "HELLO_TIMEOUT", 0.3)
    with RawViewer(display) as viewer:
        assert closed(viewer) == (4408, "no hello within 0 s")


@pytest.mark.parametrize("reads", [True, False])
def test_a_viewer_that_never_acks_is_4408_and_nobody_else_notices(
    display: rfb.Display, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    monkeypatch.setattr(session, "ACK_TIMEOUT", 3.0)
    monkeypatch.setattr("pdum_rfb_widget.broadcast.ACK_TIMEOUT", 0.2)
    noise = np.random.default_rng(1).integers(0, 256, (1080, 1920, 3), np.uint8)
    with RawViewer(display) as good, RawViewer(display, max_queue=1, close_timeout=0.1) as bad:
        good.greet()
        bad.greet()
        for _ in range(4):
            display.publish(noise)
            good.see()
        if reads:
            assert closed(bad) == (4408, "nothing was acknowledged for 3 s")
        wait_for(lambda: display.client_count == 1, "the silent viewer to be dropped")
        display.publish(grey(150))
        while value_of(good.see()[1]) != 150:
            pass


def test_publishing_never_waits_for_a_viewer_that_never_reads(display: rfb.Display) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)
    with RawViewer(display, max_queue=1, close_timeout=0.1) as stuck:
        stuck.greet()
        for _ in range(500):
            display.publish(noise)
        assert display._stream.frames_published == 500


def test_publishing_copies_once_and_encodes_elsewhere(display: rfb.Display, monkeypatch: pytest.MonkeyPatch) -> None:
    from pdum_rfb_widget import broadcast, frames

    copies: list[int] = []
    threads: list[int] = []
    copy, encode = np.copyto, broadcast.encode_image
    monkeypatch.setattr(frames.np, "copyto", lambda *args: (copies.append(args[1].nbytes), copy(*args))[1])
    monkeypatch.setattr(
        broadcast, "encode_image", lambda p, s: (threads.append(threading.get_ident()), encode(p, s))[1]
    )
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

    monkeypatch.setattr("pdum_rfb_widget.broadcast.encode_image", broken)
    with RawViewer(display) as viewer:
        viewer.greet()
        display.publish(grey(1))
        assert closed(viewer)[0] == 1011
    assert "no room" in caplog.text


def test_a_frame_that_failed_to_encode_is_tried_again_for_the_next_viewer(
    display: rfb.Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pdum_rfb_widget import broadcast

    encode, failures = broadcast.encode_image, iter([True])

    def sometimes(pixels: Any, selection: Any) -> Any:
        if next(failures, False):
            raise MemoryError("just now")
        return encode(pixels, selection)

    monkeypatch.setattr(broadcast, "encode_image", sometimes)
    display.publish(grey(9))
    with RawViewer(display) as first, RawViewer(display) as second:
        first.greet()
        assert closed(first)[0] == 1011
        second.greet()
        assert value_of(second.see()[1]) == 9


def test_sixty_four_may_wait_for_their_hello_and_no_more(display: rfb.Display) -> None:
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(RawViewer(display)) for _ in range(64)]
        assert closed(stack.enter_context(RawViewer(display)))[0] == 4429
        assert display.client_count == 0
        waiting[0].greet()
        stack.enter_context(RawViewer(display)).greet()
        assert display.client_count == 2


def test_no_token_in_the_log(display: rfb.Display, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        with RawViewer(display) as viewer:
            viewer.greet()
        get(display, "/streams", display.server.token)
        get(display, f"/streams?token={display.server.token}")
    assert display.server.token not in caplog.text


# Closing ------------------------------------------------------------------------------------------------------------


def test_closing_a_display_closes_its_viewers_with_1001_and_leaves_the_other_streams(display: rfb.Display) -> None:
    other = display.server.add_stream("other", 8, 8)
    with RawViewer(display) as viewer, RawViewer(other) as neighbour:
        viewer.greet()
        neighbour.greet()
        display.close()
        assert closed(viewer) == (1001, "the display was closed")
        other.publish(grey(66))
        assert value_of(neighbour.see()[1]) == 66
    with pytest.raises(RuntimeError, match="'default' was closed"):
        display.publish(grey(1))
    display.close()


def test_a_close_in_the_middle_of_a_payload_is_still_1001(display: rfb.Display) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2000, 2000, 3), np.uint8)
    with RawViewer(display, "image/png", max_queue=1) as viewer:
        viewer.greet()
        display.publish(noise)
        wait_for(
            lambda: next(iter(display._stream.viewers)).session.counters.frames_sent, "the payload to be under way"
        )
        closing = threading.Thread(target=display.close)
        closing.start()
        assert closed(viewer) == (1001, "the display was closed")
        closing.join()


@pytest.mark.parametrize("path", ["//[", "/%zz", "/?", "*"])
def test_strange_paths_are_answered_and_not_logged_as_errors(
    display: rfb.Display, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", display.port), timeout=5) as asking:
        asking.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert asking.recv(100).split()[1] in (b"200", b"401")
    assert not caplog.records


def test_closing_the_hub_closes_every_viewer_and_the_next_serve_makes_a_new_one(display: rfb.Display) -> None:
    old = display.server
    with RawViewer(display) as viewer:
        viewer.greet()
        old.close()
        assert closed(viewer) == (1001, "the hub was closed")
    new = rfb.serve(8, 8, port=0)
    assert new.server is not old
    assert new.server.token != old.token
    with pytest.raises(RuntimeError, match="this hub was closed"):
        old.add_stream("late", 8, 8)


def test_many_streams_on_one_port_by_path(display: rfb.Display) -> None:
    server = display.server
    camera = server.add_stream("camera", 16, 16)
    assert server.streams == ("default", "camera")
    assert server.stream("camera") is camera
    assert camera.port == display.port
    camera.publish(grey(10))
    display.publish(grey(20))
    for stream, value in ((camera, 10), (display, 20)):
        with RawViewer(stream) as viewer:
            viewer.greet()
            assert value_of(viewer.see()[1]) == value
    with pytest.raises(ValueError, match="there is a stream 'camera' already"):
        server.add_stream("camera", 8, 8)
    with pytest.raises(ValueError, match="a stream's name is"):
        server.add_stream("a/b", 8, 8)
    server.remove_stream("camera")
    server.remove_stream("camera")
    with pytest.raises(KeyError, match="there are default"):
        server.stream("camera")


def test_the_empty_path_is_the_default_stream(display: rfb.Display) -> None:
    with RawViewer(display) as viewer:
        viewer.connect(display.ws_url.removesuffix("/default"))
        assert viewer.greet()["width"] == 64


# HTTP ---------------------------------------------------------------------------------------------------------------


def get(display: rfb.Display, path: str, bearer: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{display.port}{path}")
    if bearer:
        request.add_header("Authorization", f"Bearer {bearer}")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_is_for_everybody_and_the_rest_for_the_token(display: rfb.Display) -> None:
    token = display.server.token
    assert get(display, "/health") == (200, "ok\n")
    for path in ("/streams", "/streams/default/metrics", "/nothing"):
        assert get(display, path)[0] == 401
        assert get(display, path, "wrong")[0] == 401
    assert json.loads(get(display, "/streams", token)[1]) == [
        {"name": "default", "width": 64, "height": 48, "fps": 30, "clients": 0}
    ]
    with RawViewer(display) as viewer:
        viewer.greet()
        (metrics,) = json.loads(get(display, f"/streams/default/metrics?token={token}")[1])
        assert metrics["frames_sent"] == 0
    assert get(display, "/nothing", token)[0] == 404
    assert get(display, "/streams/nowhere/metrics", token)[0] == 404


def test_addresses_tell_the_token_only_in_the_fragment(display: rfb.Display) -> None:
    assert display.ws_url == f"ws://127.0.0.1:{display.port}/default"
    page, fragment = display.url.split("#")
    assert page == f"http://127.0.0.1:{display.port}/?stream=default"
    assert fragment == f"token={display.server.token}"
    assert display.server.token not in repr(display)


def test_the_hub_listens_on_loopback_only(display: rfb.Display) -> None:
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        # Another address of this machine's own loopback range: a wildcard listener would answer.
        probe.connect(("127.0.0.2", display.port))
