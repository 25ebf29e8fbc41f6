"""The event log of one stream: its input, kept in memory for tests and written to a file."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections import deque
from pathlib import Path

from ..events import Event
from ..types import InputEvent, StreamOptions

log = logging.getLogger(__name__)

MOST_KEPT = 10_000
"""Most events kept, beyond which the oldest are dropped; and most lines that wait for a slow disk, beyond which the
newest are."""


class EventLog:
    """Keeps input events and appends them to a file. A thread of its own writes, so a slow disk blocks nothing else."""

    def __init__(self, *, keep: bool, path: Path | None) -> None:
        self._kept: deque[Event] = deque(maxlen=MOST_KEPT if keep else 0)
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_KEPT)
        self._path = path
        if path:
            threading.Thread(target=self._write, name="rfb-event-log", daemon=True).start()

    @classmethod
    def of(cls, options: StreamOptions) -> EventLog | None:
        """The event log that *options* ask for; None if they ask for none."""
        path = Path(options.event_log).expanduser() if options.event_log else None
        return cls(keep=options.record_events, path=path) if options.record_events or path else None

    @property
    def kept(self) -> list[Event]:
        """The events kept, oldest first."""
        return list(self._kept)

    def forget(self) -> None:
        self._kept.clear()

    def record(self, event: InputEvent) -> None:
        self._kept.append(event.event)
        if self._path:
            named = {"client_id": event.client_id, "received_us": event.received_us, "event": event.event}
            self._put(json.dumps(named))

    def close(self) -> None:
        """Write the remaining lines, and end the thread."""
        if self._path:
            self._put(None)

    def _put(self, line: str | None) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            if line is None:
                self._lines.get_nowait()
                self._lines.put_nowait(None)

    def _write(self) -> None:
        assert self._path
        try:
            with self._path.open("a", encoding="utf-8") as file:
                while (line := self._lines.get()) is not None:
                    file.write(line + "\n")
                    if self._lines.empty():
                        file.flush()
        except OSError as error:
            log.error("input events are no longer written to %s: %s", self._path, error)
            self._path = None
