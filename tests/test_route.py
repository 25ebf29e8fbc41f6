"""The way to a hub through a real Jupyter server: who may take it, what the hub hears, and what stays as it is."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hosts import HostProcess, wait_for
from private_hub import PrivateHub, fill, resident
from viewers import RawViewer, closed, grey, value_of
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

import pdum_rfb_widget as rfb
from pdum_rfb_widget._hosts import discovery

ROOT = Path(__file__).parent.parent
BASE = "/some/base/"


class JupyterServer(HostProcess):
    """A Jupyter server with a base of its own, and the extension as an install enables it."""

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--ServerApp.base_url={BASE}"),
            *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0"),
            f"--IdentityProvider.token={self.token}",
        ]

    def ready_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{BASE}api/status?token={self.token}"

    def environment(self) -> dict[str, str]:
        folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        own = {name: str(self.home / name.lower()) for name in folders}
        return own | {"JUPYTER_CONFIG_PATH": str(ROOT / "jupyter-config"), "PYTHONPATH": str(ROOT)}

    def address(self, hub: str, stream: str = "default", *, host: str = "127.0.0.1", token: bool = True) -> str:
        query = f"?token={self.token}" if token else ""
        return f"ws://{host}:{self.port}{BASE}pdum-rfb/{hub}/{stream}{query}"

    def get(self, hub: str, stream: str, token: bool = True) -> tuple[int, str]:
        """Status and sentence of a plain GET."""
        try:
            with urllib.request.urlopen(
                self.address(hub, stream, token=token).replace("ws:", "http:"), timeout=20
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def cookie(self, host: str = "127.0.0.1") -> str:
        """What a browser holds that has logged in at *host*: Jupyter names its cookies after it."""
        jar = CookieJar()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        opener.open(f"http://{host}:{self.port}{BASE}api/status?token={self.token}", timeout=60).close()
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with JupyterServer(tmp_path_factory.mktemp("jupyter")) as started:
        yield started


@pytest.fixture
def private() -> rfb.Display:
    """A display that no TCP port leads to."""
    return rfb.serve(64, 48, tcp=False)


def routed(server: JupyterServer, display: rfb.Display, *supported: str, **how: Any) -> RawViewer:
    """A viewer that comes through the server."""
    return RawViewer(display, *supported, url=server.address(display.server.hub_id, display.name), **how)


def refused(server: JupyterServer, hub: str, stream: str = "default", **how: Any) -> tuple[int, str]:
    """Status and sentence with which the handshake is answered."""
    address = {name: how.pop(name) for name in ("host", "token") if name in how}
    with pytest.raises(InvalidStatus) as caught, connect(server.address(hub, stream, **address), **how):
        pass
    response = caught.value.response
    return response.status_code, (response.body or b"").decode()


# The main job ---------------------------------------------------------------------------------------------------------


def test_a_picture_comes_through_the_server_where_no_port_is_open(server: JupyterServer, private: rfb.Display) -> None:
    assert private.server.port == 0
    private.publish(grey(77))
    with routed(server, private) as viewer:
        viewer.greet()
        assert value_of(viewer.see()[1]) == 77
        viewer.say(type="event", event={"type": "key_down", "key": "a"})
        wait_for(private.poll_events, "the key")


def test_messages_of_any_size_pass(server: JupyterServer) -> None:
    display = rfb.serve(64, 48, tcp=False, quality="lossless")
    noise = np.random.default_rng(1).integers(0, 256, (2200, 2200, 3), np.uint8)
    with routed(server, display, "image/png") as viewer:
        viewer.greet()
        display.publish(noise)
        assert len(viewer.see(timeout=30)[1]) > 12_000_000


def test_close_codes_and_reasons_pass_both_ways(server: JupyterServer, private: rfb.Display) -> None:
    with routed(server, private) as viewer:
        viewer.greet()
        private.close()
        assert closed(viewer) == (1001, "the display was closed")
    with routed(server, private, token="wrong") as viewer:
        viewer.say(**viewer.hello)
        assert closed(viewer) == (4401, "the token is not this hub's")
    with PrivateHub() as hub, connect(server.address(hub.id)) as leaver:
        peer, _ = hub.met()
        leaving = threading.Thread(target=lambda: leaver.close(4321, "enough"))
        leaving.start()
        frame = peer.recv(1000)
        mask, masked = frame[2:6], frame[6:]
        assert bytes(byte ^ mask[n % 4] for n, byte in enumerate(masked)) == (4321).to_bytes(2, "big") + b"enough"
        peer.close()
        leaving.join()


def test_a_viewer_that_leaves_is_noticed_by_the_hub(server: JupyterServer, private: rfb.Display) -> None:
    with routed(server, private) as viewer:
        viewer.greet()
        assert private.client_count == 1
        viewer.socket.socket.shutdown(socket.SHUT_RDWR)
        wait_for(lambda: private.client_count == 0, "the hub to notice")


def test_where_there_is_no_unix_socket_it_goes_by_tcp(server: JupyterServer, display: rfb.Display) -> None:
    known = discovery.find(display.server.hub_id)
    assert known
    discovery.write(discovery.own_folder(), replace(known, socket=""))
    display.publish(grey(55))
    with routed(server, display, origin="https://hub.example") as viewer:
        viewer.greet()
        assert value_of(viewer.see()[1]) == 55


# Who may come ---------------------------------------------------------------------------------------------------------


def test_without_a_login_it_is_403_whatever_is_asked_for(server: JupyterServer, private: rfb.Display) -> None:
    answers = {refused(server, hub, token=False) for hub in (private.server.hub_id, "0" * 16, "nonsense")}
    assert answers == {(403, "log in to this server first\n")}
    assert server.get(private.server.hub_id, "health", token=False)[0] == 403


@pytest.mark.parametrize(
    ("origin", "host", "by_cookie", "allowed"),
    [
        (None, "127.0.0.1", True, True),
        ("http://127.0.0.1:{port}", "127.0.0.1", True, True),
        ("http://localhost:{port}", "localhost", True, True),
        ("http://localhost:{port}", "127.0.0.1", True, False),
        ("https://evil.example", "127.0.0.1", True, False),
        ("https://evil.example", "127.0.0.1", False, True),
    ],
)
def test_a_cookie_counts_for_pages_of_the_server_and_a_token_for_all(
    server: JupyterServer, private: rfb.Display, origin: str | None, host: str, by_cookie: bool, allowed: bool
) -> None:
    hub = private.server.hub_id
    how: dict[str, Any] = {"origin": origin and origin.format(port=server.port)}
    if by_cookie:
        how["additional_headers"] = {"Cookie": server.cookie(host)}
    if allowed:
        with connect(server.address(hub, host=host, token=not by_cookie), **how):
            pass
    else:
        answer = refused(server, hub, host=host, token=not by_cookie, **how)
        assert answer == (403, "pages from another origin may not come through this server\n")


def test_the_hub_hears_where_the_page_is_from_and_no_credential(server: JupyterServer) -> None:
    with PrivateHub() as hub:
        headers = {"Cookie": server.cookie(), "Authorization": f"token {server.token}", "X-Forwarded-For": "6.6.6.6"}
        how: dict[str, Any] = {"additional_headers": headers, "origin": "http://page.example"}
        with connect(server.address(hub.id), **how):
            peer, head = hub.met()
            peer.close()
    request, *lines = head.strip().split("\r\n")
    assert request == "GET /default HTTP/1.1"
    said = dict(line.split(": ", 1) for line in lines)
    assert (said["X-Forwarded-For"], said["Origin"], said["Host"]) == ("127.0.0.1", "http://page.example", "localhost")
    assert set(said) == {
        *("Host", "Connection", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "X-Forwarded-For", "Origin")
    }
    assert server.token not in head


# What is wrong is said ------------------------------------------------------------------------------------------------


def test_names_that_nobody_has_are_400_or_404(server: JupyterServer, private: rfb.Display) -> None:
    status, sentence = refused(server, "0" * 16)
    assert status == 404
    assert "run the notebook again" in sentence
    for hub, stream in (("nonsense", "default"), ("..%2f" * 3, "default"), (private.server.hub_id, "a%0d%0ab")):
        assert refused(server, hub, stream)[0] == 400


def test_a_killed_hub_is_502_and_then_forgotten(server: JupyterServer) -> None:
    code = "import pdum_rfb_widget as rfb; d = rfb.serve(8, 8, tcp=False); print(d.server.hub_id, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout
        hub = process.stdout.readline().strip()
        assert server.get(hub, "health") == (200, "ok\n")
        left = discovery.find(hub)
        assert left
        process.send_signal(signal.SIGKILL)
    assert refused(server, hub) == (502, "the process of this hub has ended; run the notebook again\n")
    assert refused(server, hub)[0] == 404
    assert not Path(left.socket).exists()


def test_a_hub_of_another_machine_is_502(server: JupyterServer) -> None:
    with PrivateHub(machine="node-17") as hub:
        status, sentence = refused(server, hub.id)
    assert (status, sentence.split(",")[0]) == (502, "the kernel runs on node-17")


def test_a_hub_that_takes_no_connection_is_502(server: JupyterServer) -> None:
    with PrivateHub() as hub:
        hub.deafen()
        assert refused(server, hub.id) == (502, "the hub takes no connection: Connection refused\n")


@pytest.mark.parametrize("fault", ["open to others", "a link"])
def test_a_runtime_file_that_others_could_have_made_is_not_believed(server: JupyterServer, fault: str) -> None:
    with PrivateHub() as hub:
        if fault == "a link":
            hub.path.rename(hub.path.with_suffix(".moved"))
            hub.path.symlink_to(hub.path.with_suffix(".moved"))
        else:
            hub.path.chmod(0o644)
        assert refused(server, hub.id)[0] == 404


def test_a_plain_get_says_what_is_wrong(server: JupyterServer, private: rfb.Display) -> None:
    assert server.get(private.server.hub_id, "health") == (200, "ok\n")
    status, sentence = server.get(private.server.hub_id, "default")
    assert status == 426
    assert "dropped the Upgrade header" in sentence


# Backpressure ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_viewer_that_stops_reading_holds_the_hub_up_and_grows_nothing(server: JupyterServer) -> None:
    with PrivateHub() as hub, socket.create_connection(("127.0.0.1", server.port)) as viewer:
        handshake = f"GET {BASE}pdum-rfb/{hub.id}/default?token={server.token} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        viewer.sendall(f"{handshake}{upgrade}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
        peer, _ = hub.met()
        before = resident(server)
        taken = fill(peer)
        grown = resident(server) - before
        print(f"{taken / 1e6:.1f} MB were taken, {grown / 1e6:.1f} MB grown")
        assert taken < 50_000_000
        assert grown < 20_000_000
        # And all of it comes once the viewer reads again.
        peer.close()
        viewer.settimeout(60)
        received = 0
        while data := viewer.recv(1 << 20):
            received += len(data)
        assert received > taken


def test_a_hub_that_dies_in_the_middle_breaks_the_connection(server: JupyterServer) -> None:
    with PrivateHub() as hub, connect(server.address(hub.id)) as viewer:
        hub.met()[0].close()
        with pytest.raises(ConnectionClosedError) as caught:
            viewer.recv(timeout=60)
        assert caught.value.rcvd is None
