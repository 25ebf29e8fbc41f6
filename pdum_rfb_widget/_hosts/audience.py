"""Tells whether a stream without viewers can ever get one: for `Display.wait_ready`."""

from __future__ import annotations

import threading

from .notebook_context import jupyter_shell, marimo_context

PATIENCE = 10.0
"""Seconds to wait for a first page. A notebook's page takes one or two."""

LIVE = (
    "nobody looks at %r yet, and wait_ready() goes on waiting: show display.widget() in a cell before the one that "
    "waits, open display.url, or give wait_ready a timeout"
)
UNATTENDED = (
    "nobody looks at %r, and nobody will: this notebook runs without a page, where wait_ready() returns False. For the "
    "picture that the file keeps, publish a frame without waiting"
)


def unattended() -> bool:
    """True if the caller blocks a cell of a notebook that is executed without a page, as by nbconvert, papermill,
    documentation builds and ``marimo export``."""
    if shell := jupyter_shell():
        if threading.current_thread() is not threading.main_thread():
            return False  # it blocks no cell, and Voila's page opens once all have run
        # Pages allow a cell to ask for input; programs that execute notebooks say that nobody would answer.
        content = (shell.kernel.get_parent("shell") or {}).get("content", {})
        return content.get("allow_stdin") is False
    if context := marimo_context():
        import marimo

        # An export runs in mode `edit`, but embeds in its file all that a page would fetch.
        return marimo.app_meta().mode == "edit" and not context.virtual_files_supported
    return False
