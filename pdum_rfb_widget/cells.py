"""Which notebook cell is running: what a stream without a name is named after.

Only asks modules that the notebook has imported already; in a script there is no cell.
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from typing import Any

_last_run: tuple[str, Any] = ("", None)
_made_in_run = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of one cell."""

    name: str
    run: Any
    """Something that is equal only within the same run."""

    def next_stream_name(self) -> str:
        """The cell's name; for the second stream that the same run makes, with -2 behind it, and so on."""
        global _last_run, _made_in_run
        _made_in_run = _made_in_run + 1 if (self.name, self.run) == _last_run else 1
        _last_run = (self.name, self.run)
        return self.name if _made_in_run == 1 else f"{self.name}-{_made_in_run}"


def current_cell() -> Cell | None:
    """The cell that the caller runs in, or None outside notebooks."""
    return _marimo_cell() or _jupyter_cell()


def current_session() -> str | None:
    """The visitor's session that the caller runs in, where a process has several: in apps of ``marimo run``."""
    context = _marimo_app()
    return None if context is None else f"{id(context):x}"


def in_notebook() -> bool:
    """Whether this process is a notebook's: Jupyter's kernel, or marimo's."""
    marimo = sys.modules.get("marimo")
    return jupyter_shell() is not None or bool(marimo and marimo.running_in_notebook())


def jupyter_shell() -> Any:
    """The shell of a Jupyter kernel; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if getattr(shell, "kernel", None) is not None else None


def _marimo_app() -> Any:
    if "marimo._runtime.context" not in sys.modules:
        return None
    import marimo
    from marimo._runtime.context import get_context

    return get_context() if marimo.running_in_notebook() and marimo.app_meta().mode == "run" else None


def _jupyter_cell() -> Cell | None:
    if (shell := jupyter_shell()) is None:
        return None
    request = shell.kernel.get_parent("shell") or {}
    cell_id = request.get("metadata", {}).get("cellId")
    if not cell_id:
        # Front ends that don't say which cell it is: its code does, until it is edited.
        code = str(request.get("content", {}).get("code", ""))
        cell_id = hashlib.sha256(code.encode("utf-8", "replace")).hexdigest()[:16]
    return Cell(_as_name(cell_id), request.get("header", {}).get("msg_id"))


def _marimo_cell() -> Cell | None:
    if "marimo._runtime.context" not in sys.modules:
        return None
    import marimo
    from marimo._runtime.context import get_context

    if not marimo.running_in_notebook():
        return None
    context = get_context()
    run = context.execution_context
    cell_id = run.cell_id if run else "callback"
    if session := current_session():
        # Every visitor of an app has a kernel of their own in the one process, with the same cells.
        cell_id = f"{cell_id}-{session}"
    return Cell(_as_name(cell_id), run)


def _as_name(cell_id: str) -> str:
    return "cell-" + re.sub(r"[^\w.~-]", "-", cell_id)[:48]
