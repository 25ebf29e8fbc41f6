"""The hub on real sockets: who gets in, what the bad ones get, and that nobody else notices."""

from __future__ import annotations

import io
import json
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hosts import wait_for
from inside import hub_of
from PIL import Image
from viewers import RawViewer, closed, get, grey, in_thread, value_of
from websockets.datastructures import Headers
from websockets.http11 import Request

import pdum_rfb_widget as rfb
from pdum_rfb_widget._encode import jobs

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


@pytest.mark.parametrize("options", [{"quality": "lossless"}, {"alpha": True}, {"image_mode": "png"}], ids=str)
def test_a_large_lossless_picture_holds_up_no_later_one_on_this_machine(options: dict[str, Any]) -> None:
    # At `bitrate` the first alone would take a minute.
    display = rfb.serve(512, 512, port=0, bitrate=100_000, **options)
    noise = np.random.default_rng(1).integers(0, 256, (4, 512, 512, 3), np.uint8)
    with RawViewer(display, "image/jpeg", "image/png", "rfb/tiles") as viewer:
        viewer.greet()
        for number, frame in enumerate(noise, 1):
            display.publish(frame)
            header, payload = viewer.see()
            assert header["seq"] == number
            assert len(payload) > 700_000


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
    calls: list[str] = []
    encode = jobs.encode_image
    monkeypatch.setattr(jobs, "encode_image", lambda p, f: (calls.append(f.mime), encode(p, f))[1])
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
        assert display.wait_ready(60) is True
        display.publish(grey(1))
        display.publish(grey(2))
        viewer.see()
        assert display.wait_ready(60) is True
        viewer.say(type="event", event={"type": "hide"})
        wait_for(lambda: not display.wait_ready(0), "hidden viewers not to count")
        viewer.say(type="event", event={"type": "show"})
        assert display.wait_ready(60) is True
        assert display.client_count == 1
    wait_for(lambda: not display.wait_ready(0), "the viewer to be gone")
    assert display.client_count == 0


def test_wait_ready_is_false_while_every_window_is_full(display: rfb.Display) -> None:
    with RawViewer(display) as viewer:
        viewer.greet()
        for value in range(2):
            assert display.wait_ready(60)
            display.publish(grey(value))
            viewer.see(ack=False)
        assert display.wait_ready(0.2) is False
        viewer.ack(2)
        assert display.wait_ready(60)


def test_wait_ready_returns_when_the_display_closes(display: rfb.Display) -> None:
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(display.wait_ready()))
    waiting.start()
    display.close()
    waiting.join(60)
    assert results == [False]


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
        wait_for(lambda: display.status()["clients"][0]["frames_sent"], "the payload to be under way")
        closing = threading.Thread(target=display.close)
        closing.start()
        assert closed(viewer) == (1001, "the display was closed")
        closing.join()


@pytest.mark.parametrize("path", ["//[", "/%zz", "/?", "*"])
def test_strange_paths_are_answered_and_not_logged_as_errors(
    display: rfb.Display, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", display.port), timeout=60) as asking:
        asking.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
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


def test_origins_that_are_being_looked_through_stay_as_they_are(display: rfb.Display) -> None:
    server = display.server
    server.allow_origins(["https://one.example"])
    looking = iter(hub_of(server).admission.origins)
    server.allow_origins(["https://two.example"])
    assert list(looking) == ["https://one.example"]
    assert hub_of(server).admission.origins == {"https://one.example", "https://two.example"}


def test_a_hub_that_is_being_closed_can_be_closed_again(display: rfb.Display, monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[object] = []

    def forget(file: object) -> None:
        files.append(file)
        if len(files) == 1:
            display.server.close()

    monkeypatch.setattr("pdum_rfb_widget._hosts.discovery.forget", forget)
    display.server.close()
    assert len(files) == 1


def test_the_hub_listens_on_loopback_only(display: rfb.Display) -> None:
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        # Another address of this machine's own loopback range: a wildcard listener would answer.
        probe.connect(("127.0.0.2", display.port))


def test_a_hub_that_is_started_listens_on_loopback_and_answers_plain_http() -> None:
    async def run() -> tuple[int, bool]:
        server = rfb.Server()
        try:
            started = await server.start()
            request = Request("/health", Headers())
            answer = server.process_request(None, request)  # type: ignore[arg-type]
            assert answer is not None
            socket.create_connection(("127.0.0.1", server.port)).close()
            return answer.status_code, started is server
        finally:
            await server.aclose()

    assert in_thread(run) == (200, True)


def test_serve_server_adds_the_streams_that_it_is_given() -> None:
    first, second = {"name": "a", "width": 64, "height": 48}, {"name": "b", "width": 8, "height": 6}
    server = rfb.serve_server(port=0, streams=[first, second])
    assert server.streams == ("a", "b")
    assert (server.stream("a").width, server.stream("b").height) == (64, 6)
    with pytest.raises(ValueError, match="there is a stream 'a' already"):
        rfb.serve_server(streams=[first])
    assert rfb.serve_server(streams=None, origins=None) is server


def test_the_port_stays_open_after_aclose_of_a_display_and_closes_with_the_server() -> None:
    async def run() -> None:
        display = rfb.serve(64, 48, port=0)
        server, address = display.server, ("127.0.0.1", display.port)
        await display.aclose()
        socket.create_connection(address).close()
        await server.aclose()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)

    in_thread(run)


def test_every_event_is_a_line_of_the_event_log(display: rfb.Display, tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    display.configure(event_log=log)
    with RawViewer(display) as viewer:
        viewer.greet()
        client = display.clients[0].client_id
        for key in "ab":
            viewer.say(type="event", event={"type": "key_down", "key": key})
        wait_for(lambda: log.exists() and log.read_text().count("\n") == 2, "both lines")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == [{"type": "key_down", "key": key} for key in "ab"]
    assert {line["client_id"] for line in lines} == {client}
    assert all(isinstance(line["received_us"], int) for line in lines)
