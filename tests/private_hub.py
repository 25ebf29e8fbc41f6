"""A hub that isn't ours, on a unix socket with a runtime file: it says what a test tells it to, or far too much."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path
from typing import Any

from hosts import HostProcess
from websockets.utils import accept_key

from pdum_rfb_widget._hosts import discovery


class PrivateHub:
    """A hub that isn't ours, on a unix socket with a runtime file; takes one connection. A context manager."""

    def __init__(self, **known: Any) -> None:
        self.id = discovery.new_hub_id()
        folder = discovery.own_folder()
        self._path = next(discovery.socket_paths(folder, self.id))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        pid, machine = os.getpid(), discovery.machine()
        file = dict(hub=self.id, pid=pid, started=discovery.started(pid), machine=machine, socket=str(self._path))
        self.file = discovery.HubFile(**file | dict(host="", port=0, version="1") | known)
        self.path = discovery.write(folder, self.file)

    def __enter__(self) -> PrivateHub:
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *exc: object) -> None:
        discovery.forget(self.file)
        self.deafen()

    def deafen(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    def met(self) -> tuple[socket.socket, str]:
        """The connection that came, and the head that it began with."""
        self._accepting.join(60)
        return self._peer, self._head

    def _accept(self) -> None:
        try:
            self._peer, _ = self._listener.accept()
        except OSError:
            return
        self._peer.settimeout(60)
        self._head = ""
        while "\r\n\r\n" not in self._head:
            self._head += self._peer.recv(65536).decode()
        lines = self._head.split("\r\n")
        key = next(line.partition(": ")[2] for line in lines if line.startswith("Sec-WebSocket-Key"))
        answer = ["HTTP/1.1 101 Ok", "Upgrade: websocket", "Connection: Upgrade"]
        answer.append(f"Sec-WebSocket-Accept: {accept_key(key)}")
        self._peer.sendall("\r\n".join([*answer, "", ""]).encode())


def fill(peer: socket.socket, most: int = 1_000_000_000) -> int:
    """Send messages of 1 MiB until nothing more is taken for a second, up to *most* bytes; how many were."""
    message = b"\x82\x7f" + (1 << 20).to_bytes(8, "big") + bytes(1 << 20)
    taken = 0
    peer.settimeout(1)
    with contextlib.suppress(TimeoutError):
        while taken < most:
            rest = memoryview(message)
            while rest:
                sent = peer.send(rest)
                rest = rest[sent:]
                taken += sent
    return taken


def resident(host: HostProcess) -> int:
    """Bytes of memory that the host's server has now."""
    assert host.process
    pages = Path(f"/proc/{host.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
