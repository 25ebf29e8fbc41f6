"""The notebook context: which cell is running. A stream without a name is named after its cell.

Uses only modules that the notebook has imported already; in a script there is no cell.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sys
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from .._system.fork_guard import in_forks

log = logging.getLogger(__name__)

_RUNS = 10_000
"""The number of latest runs whose streams are counted: tasks of older runs start again at the cell's first stream."""

_READABLE = 36
"""Characters of an id used in a stream's name, which has at most 64 with the hash and the number."""

_made: dict[tuple[str, str], int] = {}
"""Number of streams that each run has created; the run with the newest stream is last. Guarded by `_lock`."""
_nameless = 0
"""Number of streams created by cells without an id in interactive notebooks. Guarded by `_lock`."""
_NAMELESS = 10
"""This many are more likely one cell run repeatedly."""
_lock = threading.Lock()


@in_forks
def _forget_who_held_the_lock() -> None:
    global _lock
    _lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a cell, or one call of a widget's callbacks."""

    name: str
    """The same in all runs of a cell, different for every other cell."""
    run: str
    """Different for every run."""
    named: bool = True
    """True if the front end identifies the cell, or runs each cell only once."""

    def next_stream_name(self) -> str:
        """The cell's name; for the second stream of the same run, with -2 appended, and so on."""
        global _nameless
        with _lock:
            _nameless += not self.named
            if not self.named and _nameless == _NAMELESS:
                log.warning(
                    "this notebook's page doesn't say which cell runs, so each run makes another stream, and %d stay "
                    "open: give serve() a name, and the next run takes its stream over",
                    _NAMELESS,
                )
            made = _made.pop((self.name, self.run), 0) + 1
            _made[self.name, self.run] = made
            if len(_made) > _RUNS:
                del _made[next(iter(_made))]
        return self.name if made == 1 else f"{self.name}-{made}"


def current_cell() -> Cell | None:
    """The cell whose output shows what is displayed now; None outside notebooks."""
    if cell := calling_cell():
        return cell
    if shell := jupyter_shell():
        return _cell_of(shell.kernel.get_parent("shell"))
    return Cell("callback", "") if marimo_context() else None


def calling_cell() -> Cell | None:
    """The cell that the calling code belongs to, also in a task that outlived its run. None outside notebooks, and
    where it can't be known: in threads, and in callbacks of displays and of marimo's elements."""
    return _marimo_cell() or _jupyter_cell()


def in_notebook() -> bool:
    """True if the caller runs in a notebook's kernel."""
    return jupyter_shell() is not None or marimo_context() is not None


def current_session() -> str | None:
    """The visitor's session that the caller runs in, for apps of ``marimo run``, whose process has several; else
    None."""
    if (context := marimo_context()) is None:
        return None
    import marimo

    # marimo's threads have a copy of the context with the same registry.
    return f"{id(context.ui_element_registry):x}" if marimo.app_meta().mode == "run" else None


def jupyter_shell() -> Any:
    """The shell of a Jupyter kernel; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if getattr(shell, "kernel", None) is not None else None


def _jupyter_cell() -> Cell | None:
    if (shell := jupyter_shell()) is None:
        return None
    parent = getattr(shell.kernel, "_shell_parent", None)
    if isinstance(parent, ContextVar):
        # Tasks inherit it. If it isn't set, as in threads, `get_parent` would fall back on the latest request.
        return _cell_of(parent.get(None))
    if threading.current_thread() is threading.main_thread():  # ipykernel before 7
        return _cell_of(shell.kernel.get_parent("shell"))
    return None


def _cell_of(request: Any) -> Cell | None:
    """The cell that a *request* to the kernel runs, or the widget whose callbacks it calls."""
    if not (request and (run := request.get("header", {}).get("msg_id"))):
        return None
    said, content = request.get("metadata", {}), request.get("content", {})
    cell_id = said.get("cellId") or said.get("colab", {}).get("cell_id") or content.get("comm_id")
    # Clients without cell ids (nbclient, consoles, nbclassic) may run equal code in two cells: each run is a cell.
    return Cell(stream_name_of(str(cell_id or run)), str(run), named=bool(cell_id or not content.get("allow_stdin")))


def marimo_context() -> Any:
    """marimo's runtime context; None outside its kernels."""
    if "marimo._runtime.context" not in sys.modules:
        return None
    import marimo
    from marimo._runtime.context import get_context

    return get_context() if marimo.running_in_notebook() else None


def _marimo_cell() -> Cell | None:
    if (context := marimo_context()) is None:
        return None
    from marimo._messaging import context as tags

    running = context.execution_context
    tag = tags.EXECUTION_CTX.get() if hasattr(tags, "EXECUTION_CTX") else None  # since marimo 0.25
    if tag:
        cell_id, run = tag.cell_id, tag.id  # tasks inherit it, and marimo's threads have it
    elif running and not running.setting_element_value:
        cell_id, run = running.cell_id, str(tags.RUN_ID_CTX.get(None))
    else:
        return None
    if session := current_session():
        # Every visitor of an app has a separate kernel in the same process, with the same cells.
        cell_id = f"{cell_id}-{session}"
    return Cell(stream_name_of(cell_id), run)


def stream_name_of(cell_id: str) -> str:
    """The id as a stream's name: readable, and different for every id."""
    plain = re.sub(r"[^\w.~-]", "-", cell_id)
    # "a-2" would also be the name of the second stream of the cell "a".
    if plain == cell_id and len(plain) <= _READABLE and not re.search(r"-\d{1,9}$", plain):
        return f"cell-{plain}"
    digest = hashlib.sha256(cell_id.encode("utf-8", "replace")).hexdigest()[:12]
    return f"cell-{plain[-_READABLE:].strip('-')}-{digest}"
