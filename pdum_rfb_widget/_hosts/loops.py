"""Event loops that last as long as the process."""

from __future__ import annotations

import asyncio
import sys
import threading

from .notebook_context import jupyter_shell


def lasting_loop() -> asyncio.AbstractEventLoop | None:
    """The running event loop, None outside any; in a subshell of a Jupyter kernel, the kernel's own loop.

    JupyterLab runs a button's callback in a subshell, whose own loop ends when the page closes.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return None
    module = sys.modules.get("ipykernel.subshell")
    if module and isinstance(threading.current_thread(), module.SubshellThread) and (shell := jupyter_shell()):
        kernels: asyncio.AbstractEventLoop = shell.kernel.io_loop.asyncio_loop
        return kernels
    return running
