"""The outputs of a stream's core: actions for its shell. The jobs in `encode_jobs` are outputs too, to be encoded."""

from __future__ import annotations

from dataclasses import dataclass

from ..auth import Principal
from ..protocol import CloseCode, Said
from ..types import EventDict, Message
from .encode_jobs import EncodeImages, EncodeVideo
from .viewer import Viewer


@dataclass(frozen=True, slots=True)
class Send:
    """Send *message* to *viewer*, and call `StreamCore.written` then. Each viewer has one at a time."""

    viewer: Viewer
    message: Message


@dataclass(frozen=True, slots=True)
class Close:
    """Close *viewer* with *code* and *reason*; *cause* is the error that led to it."""

    viewer: Viewer
    code: CloseCode
    reason: str
    cause: Exception | None


@dataclass(frozen=True, slots=True)
class Deliver:
    """Pass an event or a message of a viewer to the application. An event that was *made* here has no time yet."""

    client_id: str
    principal: Principal
    said: EventDict | Said
    made: bool = False


@dataclass(frozen=True, slots=True)
class Advise:
    """Advise the publisher to publish at this share of the stream's own size."""

    scale: float


@dataclass(frozen=True, slots=True)
class Report:
    """Add *error* to the stream's recent errors, and log it with its *cause*."""

    error: str
    cause: Exception


Output = EncodeImages | EncodeVideo | Send | Close | Deliver | Advise | Report
