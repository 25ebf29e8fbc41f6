"""What the hub's port answers to plain HTTP: which routes there are, who may ask, and in what form."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import Any

import pytest
from hosts import wait_for
from prometheus_client.parser import text_string_to_metric_families
from viewers import RawViewer, grey

import pdum_rfb_widget as rfb
from pdum_rfb_widget._hub.http_api import HttpApi
from pdum_rfb_widget.limits import Limits

ROUTES = sorted(HttpApi(None, {}, lambda: 0.0).routes)  # type: ignore[arg-type]
"""Method and path of each, as the code has them: a new one is tested without another word."""

STREAM = "größe.1"
"""Of all routes that name a stream: letters that are not everybody's."""


def ask(
    display: rfb.Display, method: str, path: str, *headers: tuple[str, str], host: str = ""
) -> tuple[int, http.client.HTTPMessage, str]:
    """Status, headers and text of the hub's answer."""
    connection = http.client.HTTPConnection("127.0.0.1", display.port, timeout=60)
    connection.putrequest(method, path.replace("{}", "gr%C3%B6%C3%9Fe.1"), skip_host=True)
    for name, value in (("Host", host or f"127.0.0.1:{display.port}"), *headers):
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, text


def bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


@pytest.fixture
def served() -> rfb.Display:
    """A hub with two streams, of which the default one keeps its input."""
    display = rfb.serve(64, 48, port=0, record_events=True)
    display.server.add_stream(STREAM, 8, 8, record_events=True)
    return display


# Who may ask --------------------------------------------------------------------------------------------------------


def test_the_routes_are_those_that_are_promised() -> None:
    paths = {path.removeprefix("/streams/{}") for _, path in ROUTES}
    assert paths == {"/streams", "/metrics", "/recorded-events", "/recorded-events/reset"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_answers_who_has_the_token_in_the_header_or_the_query(
    served: rfb.Display, method: str, path: str
) -> None:
    token = served.server.token
    for answer in (ask(served, method, path, bearer(token)), ask(served, method, f"{path}?a=1&token={token}")):
        status, headers, text = answer
        assert (status, headers["Content-Type"].partition(";")[0]) == (200, "application/json")
        assert headers["Cache-Control"] == "no-store"
        assert token not in text
        json.loads(text)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_is_401_without_the_token_with_a_wrong_an_old_or_one_that_only_looks(
    served: rfb.Display, method: str, path: str
) -> None:
    old = served.server.token
    served.server.rotate_token()
    for token in ("", "wrong", old, served.server.view_token, "\u00e9"):
        for status, _, text in (ask(served, method, path, bearer(token)), ask(served, method, f"{path}?token={old}")):
            assert (status, text) == (401, "the token is missing or not this hub's\n")
    assert ask(served, method, path)[0] == 401


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://["])
@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/"), ("GET", "/widget.js")])
def test_a_route_is_403_to_pages_of_other_machines(served: rfb.Display, method: str, path: str, origin: str) -> None:
    status, _, text = ask(served, method, path, bearer(served.server.token), ("Origin", origin))
    assert (status, text) == (403, f"pages from {origin} may not ask this hub\n")


@pytest.mark.parametrize("origin", [None, "http://evil.example:{port}"])
@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/"), ("GET", "/widget.js")])
def test_a_route_is_403_under_a_name_that_was_bound_to_this_machine(
    served: rfb.Display, method: str, path: str, origin: str | None
) -> None:
    asked = [("Origin", origin.format(port=served.port))] if origin else []
    host = f"evil.example:{served.port}"
    status, _, text = ask(served, method, path, bearer(served.server.token), *asked, host=host)
    assert status == 403
    assert "evil.example" in text


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_that_is_asked_in_another_way_is_405_and_says_which_it_takes(
    served: rfb.Display, method: str, path: str
) -> None:
    before = recorded(served)
    for wrong in {"GET", "POST", "PUT", "DELETE", "OPTIONS"} - {method}:
        status, _, text = ask(served, wrong, path, bearer(served.server.token))
        assert status == 405
        assert text in (f"this is asked with {method}\n", "")
        assert ask(served, wrong, path)[0] == 401
    assert recorded(served) == before


def recorded(display: rfb.Display) -> Any:
    return json.loads(ask(display, "GET", "/recorded-events", bearer(display.server.token))[2])


@pytest.mark.parametrize("path", ["/streams/nowhere/metrics", "/streams//metrics", "/streams/default", "/metrics/x"])
def test_what_is_not_there_is_404_and_only_for_who_has_the_token(served: rfb.Display, path: str) -> None:
    assert ask(served, "GET", path, bearer(served.server.token))[0] == 404
    assert ask(served, "GET", path)[0] == 401


def test_health_is_for_everybody_from_everywhere(served: rfb.Display) -> None:
    for asked in ((), (("Origin", "https://evil.example"),)):
        assert ask(served, "GET", "/health", *asked, host="evil.example")[::2] == (200, "ok\n")
    assert ask(served, "POST", "/health")[0] == 401


@pytest.mark.parametrize("path", ["/health", "/", "/widget.js", "/streams"])
def test_head_is_answered_as_get_is_but_without_the_body(served: rfb.Display, path: str) -> None:
    known = bearer(served.server.token)
    status, headers, body = ask(served, "GET", path, known)
    head_status, head, nothing = ask(served, "HEAD", path, known)
    assert (status, head_status, nothing) == (200, 200, type(body)())
    assert head["Content-Length"] == headers["Content-Length"]


@pytest.mark.parametrize("body", ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
def test_a_request_with_a_body_is_told_that_none_is_taken(served: rfb.Display, body: str) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as asking:
        asking.sendall(f"POST /recorded-events/reset HTTP/1.1\r\nHost: localhost\r\n{body}".encode())
        answer = b""
        while more := asking.recv(4096):
            answer += more
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"without a body" in answer


def test_the_name_of_an_allowed_page_is_one_that_the_hub_knows() -> None:
    display = rfb.serve(8, 8, port=0, origins=["https://hub.example"])
    token = bearer(display.server.token)
    assert ask(display, "GET", "/streams", token, ("Origin", "https://hub.example"), host="hub.example")[0] == 200
    assert ask(display, "GET", "/streams", token, host="hub.example:8765")[0] == 200


@pytest.mark.parametrize("name", ["Origin", "Host", "Accept", "Authorization"])
def test_a_header_that_comes_twice_is_answered_and_is_no_error_of_the_hub(
    served: rfb.Display, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    twice = [(name, "http://127.0.0.1"), (name, "http://evil.example")]
    status = ask(served, "GET", "/metrics", bearer(served.server.token), *twice)[0]
    assert status == (403 if name in ("Origin", "Host") else 200)
    assert not caplog.records


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /streams HTTP/1.0\r\n\r\n",
        "BREW /streams HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /streams HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        "GET " + "/" * 10_000 + " HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n" + "".join(f"X-{n}: y\r\n" for n in range(1000)) + "\r\n",
        "\x16\x03\x01\x02\x00\x01",
        "\r\n\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_nothing_and_is_no_error_of_the_hub(
    served: rfb.Display, request_text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as asking:
        asking.sendall(request_text.encode("latin-1"))
        asking.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while more := asking.recv(4096):
                answer += more
    assert not answer or b"200" not in answer.splitlines()[0]
    assert served.name.encode() not in answer
    assert not [record for record in caplog.records if record.exc_info]
    assert ask(served, "GET", "/health")[0] == 200


def test_requests_that_never_end_are_not_waited_for_without_limit() -> None:
    limits = Limits(handshakes=4, viewers_per_hub=2)
    display = rfb.serve_server(port=0, limits=limits).add_stream("default", 8, 8)
    address = "127.0.0.1", display.port
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(4)]
        for quiet in silent:
            quiet.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        waiting = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(2)]
        waiting[0].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        one_more = stack.enter_context(socket.create_connection(address, timeout=60))
        with contextlib.suppress(ConnectionResetError):
            assert one_more.recv(1) == b"", "an end without a word"
        silent[0].sendall(b"host\r\n\r\n")
        assert silent[0].recv(100).startswith(b"HTTP/1.1 200")
        silent[0].close()
        assert waiting[0].recv(100).startswith(b"HTTP/1.1 200"), "it is its turn"
        waiting[0].close()
        waiting[1].close()
        wait_for(lambda: healthy(display), "room for another")


def healthy(display: rfb.Display) -> bool:
    try:
        return ask(display, "GET", "/health")[0] == 200
    except ConnectionError:
        return False


# What is answered ---------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(served: rfb.Display) -> Any:
    served.publish(grey(7))
    with RawViewer(served) as viewer:
        viewer.greet()
        viewer.see()
        viewer.say(type="event", event={"type": "key_down", "key": "a"})
        wait_for(lambda: recorded(served), "the event")
        yield served


@pytest.mark.parametrize("path", ["/metrics", "/streams/default/metrics"])
def test_metrics_are_one_object_a_viewer(watched: rfb.Display, path: str) -> None:
    _, _, text = ask(watched, "GET", path, bearer(watched.server.token))
    (viewer,) = json.loads(text)
    assert (viewer["stream"], viewer["frames_sent"], viewer["frames_acked"]) == ("default", 1, 1)
    assert viewer["bytes_sent"] > 100
    assert viewer["client_id"] == watched.clients[0].client_id


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"])
def test_metrics_are_prometheus_text_for_who_asks_for_it(watched: rfb.Display, accept: str) -> None:
    other = watched.server.stream(STREAM)
    other.publish(grey(1))
    with RawViewer(other) as viewer:
        viewer.greet()
        viewer.see()
        _, headers, text = ask(watched, "GET", "/metrics", bearer(watched.server.token), ("Accept", accept))
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["pdum_rfb_frames_sent"].type == "counter"
    assert families["pdum_rfb_rtt_ms"].type == "gauge"
    sent = {sample.labels["stream"]: sample.value for sample in families["pdum_rfb_frames_sent"].samples}
    assert sent == {"default": 1.0, STREAM: 1.0}


def test_metrics_of_a_stream_that_nobody_looks_at_are_empty(served: rfb.Display) -> None:
    assert json.loads(ask(served, "GET", "/metrics", bearer(served.server.token))[2]) == []
    text = ask(served, "GET", "/metrics", bearer(served.server.token), ("Accept", "text/plain"))[2]
    assert [sample for family in text_string_to_metric_families(text) for sample in family.samples] == []


def test_streams_are_listed_with_their_size_rate_and_viewers(watched: rfb.Display) -> None:
    listed = json.loads(ask(watched, "GET", "/streams", bearer(watched.server.token))[2])
    assert listed == [
        {"name": "default", "width": 64, "height": 48, "fps": 30, "clients": 1},
        {"name": STREAM, "width": 8, "height": 8, "fps": 30, "clients": 0},
    ]


@pytest.mark.parametrize("prefix", ["", "/streams/default"])
def test_recorded_events_are_what_came_until_they_are_forgotten(watched: rfb.Display, prefix: str) -> None:
    token = bearer(watched.server.token)
    events = json.loads(ask(watched, "GET", f"{prefix}/recorded-events", token)[2])
    assert events == [{"type": "key_down", "key": "a"}] == watched.recorded_events
    assert json.loads(ask(watched, "POST", "/streams/{}/recorded-events/reset", token)[2]) == {"ok": True}
    assert recorded(watched) == events, "those of the other stream were forgotten"
    ask(watched, "POST", f"{prefix}/recorded-events/reset", token)
    assert recorded(watched) == watched.recorded_events == []


def test_recorded_events_are_the_newest_of_so_many(served: rfb.Display, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdum_rfb_widget._hub.event_log.MOST_KEPT", 3)
    display = rfb.serve(8, 8, name="default", record_events=True)
    with RawViewer(display) as viewer:
        viewer.greet()
        for key in "abcde":
            viewer.say(type="event", event={"type": "key_down", "key": key})
        wait_for(lambda: [event["key"] for event in recorded(display)] == ["c", "d", "e"], "the newest three")


def test_without_being_asked_for_no_input_is_kept(display: rfb.Display) -> None:
    with RawViewer(display) as viewer:
        viewer.greet()
        viewer.say(type="event", event={"type": "key_down", "key": "a"})
        wait_for(display.poll_events, "the event")
        assert recorded(display) == []
