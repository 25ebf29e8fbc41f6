"""Whether anybody can come to look, where nobody has yet: for `Display.wait_ready`."""

from __future__ import annotations

import threading

from .notebook_context import jupyter_shell, marimo_context

PATIENCE = 10.0
"""Seconds in which the first page comes, where one does. A notebook's takes one or two."""

LIVE = (
    "nobody looks at %r yet, and wait_ready() goes on waiting: show display.widget() in a cell before the one that "
    "waits, open display.url, or give wait_ready a timeout"
)
UNATTENDED = (
    "nobody looks at %r, and nobody will: this notebook runs without a page, where wait_ready() returns False. For the "
    "picture that the file keeps, publish a frame without waiting"
)


def unattended() -> bool:
    """The caller holds up a cell of a notebook that is executed without a page, as by nbconvert, papermill,
    documentation builds and ``marimo export``."""
    if shell := jupyter_shell():
        if threading.current_thread() is not threading.main_thread():
            return False  # it holds up no cell, and Voila's page comes once all have run
        # Pages let a cell ask for input; those that run notebooks by themselves say that nobody would answer.
        content = (shell.kernel.get_parent("shell") or {}).get("content", {})
        return content.get("allow_stdin") is False
    if context := marimo_context():
        import marimo

        # An export runs as `edit` does, but with all that a page would fetch in the file itself.
        return marimo.app_meta().mode == "edit" and not context.virtual_files_supported
    return False
