"""Close codes, and the errors that close a viewer with one."""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Codes for closing a viewer; a reason in words always goes with one."""

    GOING_AWAY = 1001
    INTERNAL_ERROR = 1011
    MALFORMED = 4400
    BAD_CREDENTIAL = 4401
    BAD_ORIGIN = 4403
    NO_STREAM = 4404
    NO_FORMAT = 4406
    TIMED_OUT = 4408
    OVER_LIMIT = 4429


class ProtocolError(Exception):
    """The peer's fault: its connection is closed with this code and reason, and no other viewer notices."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(f"{code.value} {reason}")
        self.code = code
        self.reason = reason


class UnsupportedClient(ProtocolError):
    """The viewer takes nothing that the stream can send."""
