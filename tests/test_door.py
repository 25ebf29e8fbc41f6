"""Who comes in: authenticators, the token that only looks, who controls, tokens that change, and how many may come."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import secrets
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Skip
from hosts import wait_for
from viewers import RawViewer, closed, grey, unacknowledged, value_of
from websockets.exceptions import ConnectionClosed

import pdum_rfb_widget as rfb
from pdum_rfb_widget.auth import AuthContext, ViewOnly
from pdum_rfb_widget.limits import Limits, TokenBucket


def press(viewer: RawViewer, key: str) -> None:
    viewer.say(type="event", event={"type": "key_down", "key": key})


def hear_out(viewer: RawViewer, display: rfb.Display, value: int) -> None:
    """Until *viewer* sees a new picture, and the hub has taken all that it said: then it sends that one again."""
    display.publish(grey(value))
    while abs(value_of(viewer.see()[1]) - value) > 2:
        pass
    viewer.say(type="request_keyframe")
    viewer.see()


def refusals(display: rfb.Display) -> list[int]:
    """How many events of each viewer the application was not told."""
    return [client["refused_events"] for client in display.status()["clients"]]


def refused(display: rfb.Display, token: str | None = None) -> tuple[int, str]:
    with RawViewer(display, token=token) as viewer:
        viewer.say(**viewer.hello)
        return closed(viewer)


# Authenticators -----------------------------------------------------------------------------------------------------


def by_name(context: AuthContext) -> str | None:
    return {"sesame": "alice"}.get(context.token or "")


async def by_name_in_the_loop(context: AuthContext) -> str | None:
    await asyncio.sleep(0)
    return by_name(context)


class ByName:
    """Neither a function nor a coroutine function, and what it returns has to be awaited."""

    def __call__(self, context: AuthContext) -> Any:
        return by_name_in_the_loop(context)


AUTHENTICATORS: list[Any] = [by_name, by_name_in_the_loop, ByName()]


@pytest.mark.parametrize("authenticate", AUTHENTICATORS)
@pytest.mark.parametrize("hub_wide", [True, False])
def test_an_authenticator_decides_in_place_of_the_tokens(authenticate: Any, hub_wide: bool) -> None:
    server = rfb.serve_server(port=0, authenticate=authenticate if hub_wide else None)
    options = {} if hub_wide else {"authenticate": authenticate}
    display = server.add_stream("default", 64, 48, **options)
    for token in ("wrong", server.token, server.view_token):
        assert refused(display, token) == (4401, "the application's authenticator refused the viewer")
    with RawViewer(display, token="sesame") as viewer:
        viewer.greet()
        press(viewer, "a")
        (event,) = wait_until_events(display, 1)
        (client,) = display.clients
    assert (event.principal, client.principal, client.client_id) == ("alice", "alice", event.client_id)


def wait_until_events(display: rfb.Display, count: int) -> list[Any]:
    got: list[Any] = []
    wait_for(lambda: got.extend(display.poll_events()) or len(got) >= count, f"{count} events")
    return got


def test_a_streams_own_authenticator_goes_before_the_hubs() -> None:
    server = rfb.serve_server(port=0, authenticate=lambda context: "of the hub")
    own = server.add_stream("own", 8, 8, authenticate=lambda context: "of the stream" if context.token else None)
    other = server.add_stream("other", 8, 8)
    for display, principal in ((own, "of the stream"), (other, "of the hub")):
        with RawViewer(display, token="any") as viewer:
            viewer.greet()
            assert display.clients[0].principal == principal


def test_an_authenticator_is_told_all_that_the_handshake_says() -> None:
    asked: list[AuthContext] = []
    display = rfb.serve(8, 8, name="scene", port=0, authenticate=asked.append)
    headers = {"Cookie": "user=bob; night=1", "X-Team": "red"}
    with RawViewer(display, token="t", additional_headers=headers) as viewer:
        viewer.connect(f"{display.ws_url}?room=1&room=2", additional_headers=headers)
        viewer.say(**viewer.hello, mood="good")
        assert closed(viewer)[0] == 4401
    (context,) = asked
    assert (context.token, context.stream, context.path) == ("t", "scene", "/scene?room=1&room=2")
    assert (context.cookies, context.query) == ({"user": "bob", "night": "1"}, {"room": "2"})
    assert context.headers
    assert context.headers["x-team"] == "red"
    assert context.remote
    assert context.remote[0] == "127.0.0.1"
    assert context.hello
    assert context.hello["mood"] == "good"
    assert "bob" not in repr(context)
    assert "t'" not in repr(context)


def raises(context: AuthContext) -> None:
    raise LookupError("the directory is down")


async def raises_in_the_loop(context: AuthContext) -> None:
    raise LookupError("the directory is down")


def finds_nobody(context: AuthContext) -> str:
    return next(name for name in ("alice", "bob") if name == context.token)


def gives_up(context: AuthContext) -> None:
    raise SystemExit(1)


async def gives_up_in_the_loop(context: AuthContext) -> None:
    raise SystemExit(1)


@pytest.mark.parametrize("authenticate", [raises, raises_in_the_loop, finds_nobody, gives_up, gives_up_in_the_loop])
def test_what_an_authenticator_raises_is_logged_and_refuses(
    authenticate: Any, caplog: pytest.LogCaptureFixture
) -> None:
    display = rfb.serve(64, 48, port=0, authenticate=authenticate)
    other = display.server.add_stream("other", 64, 48)
    assert refused(display, "secret")[0] == 4401
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert "secret" not in caplog.text
    with RawViewer(other) as viewer:
        viewer.greet()
        hear_out(viewer, other, 70)


@pytest.mark.parametrize("cookies", ["a=b; =; ;;", "\x80=\xff; a=b", "a" * 3000, 'a="\\777"'])
def test_cookies_that_nobody_can_read_do_not_stop_who_has_the_token(cookies: str) -> None:
    display = rfb.serve(8, 8, port=0, authenticate=by_name)
    with socket.create_connection(("127.0.0.1", display.port)) as raw:
        head = "GET /default HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        raw.sendall(f"{head}{key}Cookie: {cookies}\r\n\r\n".encode("latin-1"))
        assert raw.recv(1000).startswith(b"HTTP/1.1 101")
        raw.sendall(masked(json.dumps({"type": "hello", "supported": ["image/png"], "token": "sesame"}).encode()))
        wait_for(lambda: display.client_count == 1, "the viewer")


def masked(payload: bytes) -> bytes:
    """A text frame as clients send it, with a mask of zeros."""
    assert len(payload) < 126
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload


@pytest.mark.parametrize("in_the_loop", [True, False])
def test_an_authenticator_that_hangs_closes_its_viewer_and_holds_up_nobody(
    display: rfb.Display, skip: Skip, in_the_loop: bool
) -> None:
    asked, release = threading.Event(), threading.Event()

    async def hangs_in_the_loop(context: AuthContext) -> None:
        asked.set()
        await asyncio.Event().wait()

    def hangs(context: AuthContext) -> None:
        asked.set()
        release.wait(60)

    display.configure(authenticate=hangs_in_the_loop if in_the_loop else hangs)
    other = display.server.add_stream("other", 64, 48)
    try:
        with RawViewer(other) as neighbour, RawViewer(display, token="any") as viewer:
            neighbour.greet()
            viewer.say(**viewer.hello)
            assert asked.wait(60)
            hear_out(neighbour, other, 120)
            wait_for(lambda: unacknowledged(other) == [0], "the neighbour's answer")
            skip(11)
            assert closed(viewer)[0] == 4408
    finally:
        release.set()
    assert display.client_count == 0


def test_nothing_is_heard_of_a_viewer_before_the_authenticator_has_said_yes(display: rfb.Display) -> None:
    asked, answer = threading.Event(), threading.Event()

    def slowly(context: AuthContext) -> str:
        asked.set()
        answer.wait(60)
        return "late"

    display.configure(authenticate=slowly)
    with RawViewer(display, token="any") as viewer:
        viewer.say(**viewer.hello)
        press(viewer, "a")
        assert asked.wait(60)
        assert (display.client_count, display.poll_events()) == (0, [])
        answer.set()
        (event,) = wait_until_events(display, 1)
        assert event.principal == "late"


def test_limits_and_authenticators_that_are_none_are_refused() -> None:
    for wrong in ({"viewers_per_stream": 0}, {"message_bytes": -1}, {"handshakes": 1 << 40}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Limits(**wrong)
    with pytest.raises(TypeError, match="limits are a Limits"):
        rfb.serve_server(port=0, limits={"handshakes": 3})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a function of an AuthContext"):
        rfb.serve_server(port=0, authenticate="alice")  # type: ignore[arg-type]


# Who only looks -----------------------------------------------------------------------------------------------------


def test_who_has_the_view_token_sees_and_what_it_sends_is_dropped_and_counted(display: rfb.Display) -> None:
    with RawViewer(display, token=display.server.view_token) as viewer, RawViewer(display) as other:
        viewer.greet()
        other.greet()
        press(viewer, "a")
        press(viewer, "b")
        hear_out(viewer, display, 90)
        press(other, "c")
        wait_until = wait_until_events(display, 1)
        clients = display.status()["clients"]
    assert [event.event["key"] for event in wait_until] == ["c"]
    assert [(client["view_only"], client["refused_events"]) for client in clients] == [(True, 2), (False, 0)]


def test_a_principal_that_is_view_only_sees_and_sends_nothing() -> None:
    display = rfb.serve(64, 48, port=0, authenticate=lambda context: ViewOnly("bob"))
    with RawViewer(display, token="any") as viewer:
        viewer.greet()
        press(viewer, "a")
        hear_out(viewer, display, 91)
        (client,) = display.clients
        assert (client.principal, client.view_only) == ("bob", True)
    assert display.poll_events() == []


def test_who_only_looks_does_not_choose_the_size() -> None:
    display = rfb.serve(64, 48, port=0, resize_policy="match_client", resize_debounce=0)
    box = {"width": 100, "height": 80, "pwidth": 100, "pheight": 80, "ratio": 1}
    with RawViewer(display, token=display.server.view_token) as viewer, RawViewer(display) as other:
        viewer.greet()
        viewer.say(type="set_viewport", **box)
        hear_out(viewer, display, 60)
        assert display.target_size is None
        other.greet()
        other.say(type="set_viewport", **box | {"pwidth": 50, "pheight": 40})
        wait_for(lambda: display.target_size == (50, 40), "the size of who may touch")


# Who controls -------------------------------------------------------------------------------------------------------


def test_only_the_controller_is_heard_and_control_is_handed_over(display: rfb.Display) -> None:
    with RawViewer(display) as first, RawViewer(display) as second:
        first.greet()
        second.greet()
        names = [client.client_id for client in display.clients]
        assert display.controller is None
        for controller, heard, refused_so_far in (
            (None, ["0", "1"], [0, 0]),
            (names[0], ["0"], [0, 1]),
            (names[1], ["1"], [1, 1]),
        ):
            display.controller = controller
            for number, viewer in enumerate((first, second)):
                viewer.say(type="event", event={"type": "char", "data": str(number)})
            got = wait_until_events(display, len(heard))
            wait_for(lambda: refusals(display) == refused_so_far, "those who are not heard to be counted")  # noqa: B023
            assert sorted(event.event["data"] for event in got) == heard


def test_control_goes_to_the_oldest_viewer_when_the_controller_goes_and_then_to_all(display: rfb.Display) -> None:
    with RawViewer(display, token=display.server.view_token) as looker, RawViewer(display) as second:
        looker.greet()
        second.greet()
        with RawViewer(display) as third:
            third.greet()
            display.controller = display.clients[2].client_id
        wait_for(lambda: display.controller == display.clients[1].client_id, "the next controller")
        second.__exit__()
        wait_for(lambda: display.client_count == 1, "the second to go")
        wait_for(lambda: display.controller is None, "control to be everybody's")


def test_who_is_not_there_or_only_looks_cannot_be_the_controller(display: rfb.Display) -> None:
    with RawViewer(display, token=display.server.view_token) as viewer:
        viewer.greet()
        for nobody in ("viewer-0", display.clients[0].client_id):
            with pytest.raises(ValueError, match="nobody yet, or None, not 'viewer-"):
                display.controller = nobody


def test_who_goes_at_the_moment_of_being_given_control_does_not_keep_it(
    display: rfb.Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawViewer(display) as viewer:
        viewer.greet()
        looked_at = display.clients
    wait_for(lambda: display.client_count == 0, "the viewer to go")
    monkeypatch.setattr(rfb.Display, "clients", looked_at)
    with pytest.raises(ValueError, match="nobody yet, or None, not 'viewer-"):
        display.controller = looked_at[0].client_id
    assert display.controller is None


def test_who_is_given_control_is_asked_for_the_size() -> None:
    display = rfb.serve(64, 48, port=0, resize_policy="match_client", resize_debounce=0)
    with RawViewer(display) as first, RawViewer(display) as second:
        for side, viewer in ((100, first), (200, second)):
            viewer.greet()
            viewer.say(type="set_viewport", width=side, height=side, pwidth=side, pheight=side, ratio=1)
            wait_for(lambda: display.target_size == (side, side), "the newest viewer's size")  # noqa: B023
        display.controller = display.clients[0].client_id
        wait_for(lambda: display.target_size == (100, 100), "the controller's size")


# Tokens that change -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [False, True])
def test_a_rotated_token_closes_its_viewers_and_lets_new_ones_in(display: rfb.Display, view: bool) -> None:
    server = display.server
    old, kept = (server.token, server.view_token)[:: -1 if view else 1]
    with RawViewer(display, token=old) as viewer, RawViewer(display, token=kept) as other:
        viewer.greet()
        other.greet()
        new = server.rotate_token(view=view)
        assert closed(viewer) == (4401, "the token was changed")
        hear_out(other, display, 130)
    assert new != old
    assert new == (server.view_token if view else server.token)
    assert refused(display, old)[0] == 4401
    with RawViewer(display, token=new) as viewer:
        viewer.greet()


def test_a_viewer_that_an_authenticator_let_in_survives_a_new_token() -> None:
    display = rfb.serve(64, 48, port=0, authenticate=lambda context: "anybody")
    with RawViewer(display) as viewer:
        viewer.greet()
        display.server.rotate_token()
        hear_out(viewer, display, 140)


def test_a_token_of_one_hub_opens_no_stream_of_the_next(display: rfb.Display) -> None:
    old = display.server.token
    display.server.close()
    assert refused(rfb.serve(8, 8, port=0), old)[0] == 4401


def test_the_address_of_a_display_has_the_new_token(display: rfb.Display) -> None:
    new = display.server.rotate_token()
    assert display.url.endswith(f"#token={new}")


# How many, and how much ---------------------------------------------------------------------------------------------


def limited(**limits: int) -> rfb.Display:
    return rfb.serve_server(port=0, limits=Limits(**limits)).add_stream("default", 64, 48)


def test_a_stream_has_only_so_many_viewers() -> None:
    display = limited(viewers_per_stream=2)
    other = display.server.add_stream("other", 8, 8)
    with RawViewer(display) as first, RawViewer(display) as second, RawViewer(other) as neighbour:
        for viewer in (first, second, neighbour):
            viewer.greet()
        assert refused(display) == (4429, "2 viewers look at 'default' already")
        second.__exit__()
        wait_for(lambda: display.client_count == 1, "the second to go")
        with RawViewer(display) as third:
            third.greet()


def test_a_hub_has_only_so_many_viewers() -> None:
    display = limited(viewers_per_hub=2)
    other = display.server.add_stream("other", 8, 8)
    with RawViewer(display) as first, RawViewer(other) as second:
        first.greet()
        second.greet()
        assert refused(display) == (4429, "the hub has 2 viewers already")


def test_who_is_refused_by_the_token_takes_no_place() -> None:
    display = limited(viewers_per_stream=1, handshakes=1)
    for _ in range(5):
        assert refused(display, "wrong")[0] == 4401
        wait_for(lambda: not display.status()["pending"], "the stranger to go")
    with RawViewer(display) as viewer:
        viewer.greet()


@pytest.mark.parametrize("message", [b"x" * 2001, "x" * 2001, "\u20ac" * 700])
@pytest.mark.parametrize("greeted", [True, False])
def test_a_message_over_the_limit_is_4429_and_names_it(message: str | bytes, greeted: bool) -> None:
    display = limited(message_bytes=2000)
    with RawViewer(display) as viewer:
        if greeted:
            viewer.greet()
        viewer.socket.send(message)
        assert closed(viewer) == (4429, "a message of a viewer holds at most 2000 bytes")


@pytest.mark.parametrize(
    "send",
    [
        lambda viewer: press(viewer, "a" * 200),
        lambda viewer: viewer.say(type="?"),
        lambda viewer: viewer.socket.ping(secrets.token_bytes(100)),
        lambda viewer: viewer.socket.pong(b"x" * 100),
    ],
)
def test_who_sends_more_than_it_may_for_long_is_4429(send: Callable[[RawViewer], object]) -> None:
    display = limited(bytes_per_second=20_000)
    display.configure(event_queue_size=10)
    with RawViewer(display, ping_interval=None) as viewer:
        viewer.greet()
        with contextlib.suppress(ConnectionClosed):
            for _ in range(10_000):
                send(viewer)
        assert closed(viewer) == (4429, "the viewer sends more than it may for long")


def test_who_says_very_little_very_often_is_4429() -> None:
    display = limited(bytes_per_second=20_000)
    with RawViewer(display) as viewer:
        viewer.greet()
        with contextlib.suppress(ConnectionClosed):
            for _ in range(1000):
                viewer.socket.send('{"type":"?"}')  # 18 KB in all, where 80 would do
        assert closed(viewer) == (4429, "the viewer sends more than it may for long")


def test_a_bucket_fills_with_time_and_never_beyond_its_burst() -> None:
    bucket = TokenBucket(100, 400, 0)
    assert bucket.spend(400, 0), "it is full at first"
    assert not bucket.spend(1, 0)
    assert bucket.spend(99, 1)
    assert not bucket.spend(401, 1e9)


def test_a_bucket_says_when_an_amount_fits_and_what_is_owed_delays_it() -> None:
    bucket = TokenBucket(100, 400, 0)
    assert bucket.fits_at(400, 0) == 0
    assert not bucket.spend(600, 0)
    assert bucket.left(1) == -100
    assert bucket.fits_at(0, 1) == 2
    assert bucket.fits_at(50, 1) == 2.5
    assert bucket.fits_at(9e9, 1) == 6, "the burst is all that can be saved up"


def test_a_bucket_of_infinite_rate_limits_nothing_and_is_full_when_it_gets_a_finite_one_again() -> None:
    bucket = TokenBucket(100, 400, 0)
    bucket.spend(1000, 0)
    bucket.rate = bucket.burst = math.inf
    assert bucket.fits_at(1e9, 0) == 0
    assert bucket.spend(1e9, 1)
    bucket.rate, bucket.burst = 100, 400
    assert bucket.left(1) == 400


def test_a_bucket_may_drain_with_time() -> None:
    bucket = TokenBucket(-100, 400, 0)
    assert bucket.left(3) == 100
    assert not bucket.spend(0, 5)


def test_limits_are_those_of_the_hub_that_asked_for_them() -> None:
    limits = Limits(viewers_per_hub=3)
    server = rfb.serve_server(port=0, limits=limits)
    assert server.limits is limits
    server.close()
    assert rfb.serve_server(port=0).limits == Limits()


def test_what_opens_one_stream_opens_no_other() -> None:
    server = rfb.serve_server(port=0)
    guarded = server.add_stream("guarded", 8, 8, authenticate=by_name)
    plain = server.add_stream("plain", 8, 8)
    assert refused(guarded, server.token)[0] == 4401
    assert refused(plain, "sesame")[0] == 4401
