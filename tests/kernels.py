"""Jupyter kernels that are driven without a page."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel


class Kernel:
    """A kernel without a page, and the requests of its client."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def run(self, code: str, subshell: str | None = None, *, attended: bool = False) -> str:
        """What *code* prints, in the kernel's own shell or in a *subshell*; *attended* by who can answer, as a page."""
        content = {"code": code, "silent": False, "allow_stdin": attended}
        request = self._client.session.msg("execute_request", content)
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


@contextmanager
def bare_kernel() -> Iterator[Kernel]:
    """A kernel of its own, which is ended."""
    manager, client = start_new_kernel(env=dict(os.environ))
    try:
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
