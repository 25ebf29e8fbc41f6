"""Event loops that end before the process does, such as those of a Jupyter kernel's subshells."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from queue import Empty
from typing import Any

import pytest
from hosts import wait_for
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel


class Kernel:
    """A kernel without a page, and the requests of its client."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def run(self, code: str, subshell: str | None = None) -> str:
        """What *code* prints, in the kernel's own shell or in a *subshell*."""
        request = self._client.session.msg("execute_request", {"code": code, "silent": False, "allow_stdin": False})
        if subshell:
            request["header"]["subshell_id"] = subshell
        self._client.shell_channel.send(request)
        printed, deadline = "", time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                message = self._client.get_iopub_msg(timeout=1)
            except Empty:
                continue
            if message["parent_header"].get("msg_id") != request["header"]["msg_id"]:
                continue
            content = message["content"]
            assert message["msg_type"] != "error", content["traceback"]
            printed += content.get("text", "")
            if content.get("execution_state") == "idle":
                return printed
        raise TimeoutError(code)

    def control(self, kind: str, **content: Any) -> dict[str, Any]:
        """The answer to a request of this *kind*."""
        request = self._client.session.msg(kind, content)
        self._client.control_channel.send(request)
        while True:
            reply = self._client.control_channel.get_msg(timeout=60)
            if reply["parent_header"].get("msg_id") == request["header"]["msg_id"]:
                return dict(reply["content"])


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    manager, client = start_new_kernel(env=dict(os.environ))
    try:
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


SERVE = """
import threading, numpy as np, pdum_rfb_widget as rfb
from pdum_rfb_widget.sources import RenderCallbackSource
from pdum_rfb_widget.types import InputEvent
calls = {"loop": 0, "source": 0, "press": 0}
def count(kind):
    calls[kind] += 1
    return np.full((8, 8), calls[kind] % 256, np.uint8)
looped, attached = rfb.serve(8, 8), rfb.serve(8, 8)
for display in (looped, attached):
    display.wait_ready = lambda timeout=None: True
task = rfb.publish_loop(looped, lambda: count("loop"), fps=100)
attached.attach(RenderCallbackSource(lambda seq, t_us: count("source"), width=8, height=8, fps=100))
looped.on("pointer_down")(lambda event: count("press"))
"""
PRESS = "looped.put_event(InputEvent('v', None, {'type': 'pointer_down', 'x': 0, 'y': 0}, 0))"
LOOK = "import json; print(json.dumps(calls))"


def test_what_a_subshell_began_goes_on_when_the_subshell_ends(kernel: Kernel) -> None:
    subshell = kernel.control("create_subshell_request")["subshell_id"]
    kernel.run(SERVE, subshell)
    assert kernel.control("delete_subshell_request", subshell_id=subshell)["status"] == "ok"
    before = json.loads(kernel.run(LOOK))
    kernel.run(PRESS)

    def all_go_on() -> bool:
        now = json.loads(kernel.run(LOOK))
        return all(now[kind] > before[kind] for kind in now)

    wait_for(all_go_on, "frames of both and the call", 30)
    kernel.run("task.cancel()")
    assert kernel.run("print(task.cancelled(), looped.status()['troubles'])") == "True []\n"
