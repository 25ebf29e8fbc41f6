"""One stream as a state machine: its viewers, what is encoded for them, and who controls it. No I/O, reads no clock.

Inputs are methods: a frame was published, a viewer connected, said something, was written to or left, an encoding
ended, options changed. They change the state and return nothing. `StreamCore.poll` then returns what follows from all
of them: what to encode, what to send to whom, whom to close, what to deliver to the application. `StreamCore.wake_at`
says when to poll though nothing came. A thousand acknowledgements between two polls cost one look at the stream, not a
thousand.

`session.ViewerSession` decides for one viewer, `shared_encoders` for those that share video; here is what they have in
common.
"""

from __future__ import annotations

import math

from .._frames.chunk import Chunk
from .._frames.damage import TileMap
from ..protocol import CHANNELS, CloseCode, ProtocolError, cursor_message
from ..types import Encoded, Message, StreamOptions
from .agenda import Agenda
from .encode_jobs import EncodeImages, EncodeJobs, EncodeVideo, Job
from .input_control import InputControl
from .outbox import pieces_of
from .outputs import Close, Output, Report, Send
from .stream_state import EncodePlan, StreamState
from .viewer import Phase, Viewer

_CURSOR = "rfb/cursor"
"""A channel reserved for the package: application channels have no slash."""


class StreamCore:
    """The state machine of one stream. Owned by the hub's thread."""

    def __init__(self, options: StreamOptions, size: tuple[int, int]) -> None:
        self.state = StreamState(options, size)
        self._outputs: list[Output] = []
        self.control = InputControl(options, self._outputs)
        self.viewed = False
        """True once any viewer was admitted."""
        self.jobs = EncodeJobs()
        self._awaited: dict[Viewer, tuple[EncodePlan, EncodeImages]] = {}
        """The plan that each viewer is sent next, and the job that encodes it."""
        self._cursor: str | None = None
        self.agenda = Agenda()
        """The viewers to look at, and those that have room for a frame."""
        self._video_look = math.inf
        """Time at which a shared encoder may take a frame though nothing came."""

    # Input: the publisher ---------------------------------------------------------------------------------------------

    def published(self, newest: TileMap | None, *, pending: TileMap | None = None) -> None:
        """Makes *newest* the frame to send, and to encode from. *pending* is the map of a newer one: what changed in
        it has to be found out once `Agenda.takes_frames`."""
        before, self.state.pending = self.state.pending, pending
        if newest and newest is not self.state.newest:
            self.state.published(newest)
            self.jobs.forget(newest.version)
            if self.state.options.adaptive:
                self.control.advise()
        elif (pending is None) == (before is None):
            return
        self._look_at_all()

    def restart(self, size: tuple[int, int], options: StreamOptions, now: float) -> None:
        """Begins again for another publisher. The viewers stay and keep their picture until its first frame."""
        self.jobs.clear()
        if self._cursor:
            self.set_cursor(None)
        self.state.restart(size, options)
        self.control.advised = 1.0
        for viewer in self.viewers:
            viewer.session.restarted()
        self.control.configure(options, now)
        self._look_at_all()

    def configure(self, options: StreamOptions, now: float) -> None:
        """Goes on with new *options*."""
        before, self.state.options = self.state.options, options
        self.state.publish_rate.still_after = options.still_after
        for viewer in self.viewers:
            viewer.session.reconfigured(redraw=options.alpha != before.alpha)
            if options.clipboard != before.clipboard:
                viewer.session.outbox.show(viewer.session.greet(*self.size))
        if options.codec != before.codec:
            self.state.encoders.clear()  # an encoder at work would continue with the old codec
        self.control.configure(options, now)
        self._look_at_all()

    def set_cursor(self, cursor: str | None) -> None:
        """Shows *cursor* to all present and future viewers."""
        self._cursor = cursor
        for viewer in self.viewers:
            self._show_cursor(viewer)

    def tell(
        self, message: Message, channel: str, *, latest: bool, to: frozenset[str] | None, capability: str = CHANNELS
    ) -> None:
        """Sends *message* to the viewers with *capability*, limited to the ids in *to*. Without *to*, a channel message
        goes to all of them, a clipboard message only to those whose input is accepted."""
        for viewer in self.viewers:
            meant = viewer.id in to if to is not None else capability == CHANNELS or self.control.accepts(viewer)
            if meant and viewer.session.takes(capability):
                self._put(viewer, message, channel, latest=latest)

    # Input: viewers ---------------------------------------------------------------------------------------------------

    def connected(self, viewer: Viewer) -> None:
        """Takes *viewer*, which has said nothing yet."""
        self.agenda.look_at([viewer])

    def received(self, viewer: Viewer, message: str | bytes, now: float) -> None:
        """Takes a message of *viewer*."""
        if viewer.phase in (Phase.DRAINING, Phase.CLOSED):
            return
        session, acks = viewer.session, viewer.session.window.acks
        before = session.visible, session.viewport
        try:
            told = session.receive(message, now)
        except Exception as error:
            self.fail(viewer, error)
            return
        self.agenda.note_room(viewer, self._awaited.get(viewer))
        if viewer.idle and session.window.acks > acks:
            return
        if viewer.phase is Phase.OPENING and session.selection:
            self._admit(viewer)
        if before != (session.visible, session.viewport):
            self.control.update_size(now)
        if before[0] != session.visible or session.framebuffer.lost:
            self._video_look = -math.inf  # it has left its encoder, which may have waited for it
        if before[0] != session.visible:
            viewer.becomes("shown" if session.visible else "hidden")
        if told:
            self.control.deliver(viewer, told)
        self.agenda.look_at([viewer])

    def written(self, viewer: Viewer, *, at_once: bool = False) -> None:
        """Records that the message of the last `Send` to *viewer* was written; *at_once*, before any other input."""
        viewer.writing = False
        if not (at_once and viewer.idle):
            self.agenda.look_at([viewer])

    def fail(self, viewer: Viewer, error: Exception) -> None:
        """Closes *viewer*, by its own fault or the hub's."""
        if isinstance(error, ProtocolError):
            self.close(viewer, error.code, error.reason, error)
        else:
            self.close(viewer, CloseCode.INTERNAL_ERROR, "the hub failed; its log says why", error)

    def close(self, viewer: Viewer, code: CloseCode, reason: str, cause: Exception | None = None) -> None:
        """Closes *viewer* with *code* and *reason*."""
        if viewer.open or viewer.phase is Phase.OPENING:
            viewer.becomes("refused")
            self._outputs.append(Close(viewer, code, reason, cause))

    def left(self, viewer: Viewer, now: float) -> None:
        """Forgets *viewer*, whose connection has ended."""
        viewer.becomes("left")
        self.control.forget(viewer, now)
        viewer.session.gone()
        self.agenda.forget(viewer)
        self._awaited.pop(viewer, None)
        self._video_look = -math.inf

    # Input: encoders --------------------------------------------------------------------------------------------------

    def encoded(self, job: Job, outcome: Encoded | Chunk | Exception, now: float) -> None:
        """Takes the *outcome* of a job: images for the viewers that wait for them, or an access unit for all
        subscribers of an encoder. One that comes after the job was given up is dropped."""
        if self.jobs.end(job):
            self._take(job, outcome, now)

    # Output -----------------------------------------------------------------------------------------------------------

    def poll(self, now: float) -> list[Output]:
        """Returns everything to do now, in this order."""
        while given_up := self.jobs.give_up(now):
            job, error = given_up
            self._outputs.append(Report(str(error), error))
            self._take(job, error, now)
        self.control.settle_size(now)
        for viewer in self.agenda.take(now):
            self._serve(viewer, now)
        if self._video_look <= now:
            self._step_video(now)
        outputs = self._outputs.copy()
        self._outputs.clear()
        return outputs

    @property
    def due(self) -> bool:
        """True if an input since the last `poll` gave it something to do."""
        return bool(self.agenda.due or self._outputs)

    @property
    def wake_at(self) -> float:
        """Time at which `poll` has something to do though nothing came; infinity while there is nothing to wait for."""
        return min(self.agenda.timers.next, self._video_look, self.control.sizing.due, self.jobs.next_deadline)

    @property
    def viewers(self) -> set[Viewer]:
        """The viewers that were admitted."""
        return self.control.viewers

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the newest frame in pixels; before the first, what the publisher means to publish."""
        return self.state.format.size if self.state.format else self.state.size

    # Viewers ----------------------------------------------------------------------------------------------------------

    def _look_at_all(self) -> None:
        self.agenda.look_at(self.viewers)
        self._video_look = -math.inf

    def _admit(self, viewer: Viewer) -> None:
        viewer.becomes("admitted")
        self.viewed = True
        self.viewers.add(viewer)
        (config,) = viewer.session.greet(*self.size)
        self._send(viewer, config)
        if self._cursor:
            self._show_cursor(viewer)

    def _serve(self, viewer: Viewer, now: float) -> None:
        """Finds the next message for *viewer*, and when to look at it again. What fails closes this viewer alone."""
        session, closes_at = viewer.session, viewer.session.closes_at
        try:
            session.check(now)
            if viewer.open and not viewer.writing:
                self._feed(viewer, now)
        except Exception as error:
            self.fail(viewer, error)
        awaits = viewer in self._awaited
        viewer.idle = session.outbox.empty if awaits else session.rests(now)
        if viewer.open or viewer.phase is Phase.OPENING:
            waits = awaits or session.outbox.shows or (viewer.writing and not viewer.idle)
            look = math.inf if waits else session.next_look
            self.agenda.timers.set(viewer, min(look, session.closes_at if math.isinf(closes_at) else closes_at))
        self.agenda.note_room(viewer, self._awaited.get(viewer))

    def _feed(self, viewer: Viewer, now: float) -> None:
        session, outbox = viewer.session, viewer.session.outbox
        outbox.tell(session.stats(now))
        while not outbox.shows and self._plan(viewer, now):
            pass
        if outbox.empty or not viewer.open:
            return
        cut = pieces_of(session.bandwidth) if session.takes(CHANNELS) else ()
        if (message := outbox.next(*cut)) is not None:
            self._send(viewer, message)

    def _send(self, viewer: Viewer, message: Message) -> None:
        viewer.writing = True
        self._outputs.append(Send(viewer, message))

    def _plan(self, viewer: Viewer, now: float) -> bool:
        """Puts the next frame for *viewer* into its outbox, or has it encoded. Returns False if it has to wait."""
        session = viewer.session
        if viewer not in self._awaited:
            if session.window.queue and (messages := session.send_chunk(now)):
                session.outbox.show(messages)
                return True
            plan = session.plan(now)
            if plan is None:
                if (newest := self.state.newest) and self.state.encoders.concern(session, newest, now):
                    self._video_look = -math.inf
                self._encode_ahead(viewer, now)
                return False
            self._awaited[viewer] = plan, self._job(plan, now)
        plan, job = self._awaited[viewer]
        if job.outcome is None:
            job.waiting[viewer] = None
            return False
        del self._awaited[viewer]
        if isinstance(job.outcome, Exception):
            self.fail(viewer, job.outcome)
            return False
        if not plan.still or session.still_wanted(plan):
            session.outbox.show(session.send(plan, job.outcome, now))
        if plan.still:
            self._encode_ahead(viewer, now)
        return True

    def _encode_ahead(self, viewer: Viewer, now: float) -> None:
        while plan := viewer.session.plan_ahead(now):
            self._job(plan, now)

    def _job(self, plan: EncodePlan, now: float) -> EncodeImages:
        """Returns the job that encodes *plan*, which begins unless another viewer has planned the same."""
        job, begins = self.jobs.images(plan, now)
        if begins:
            self._outputs.append(job)
        return job

    # Encoders ---------------------------------------------------------------------------------------------------------

    def _take(self, job: Job, outcome: Encoded | Chunk | Exception, now: float) -> None:
        if isinstance(job, EncodeImages):
            assert not isinstance(outcome, Chunk)
            if isinstance(outcome, Encoded):
                self.state.learn(job.plan, outcome)
            job.outcome = outcome
            self.agenda.look_at(job.waiting)
            job.waiting.clear()
        elif isinstance(outcome, Chunk):
            self._hand_out(job, outcome, now)
        else:
            assert isinstance(outcome, Exception)
            self._outputs.append(
                Report(f"video was given up for pictures: {type(outcome).__name__}: {outcome}", outcome)
            )
            self.state.fail_video(job.request.tiles.size)
            self.agenda.look_at(self.viewers)

    def _hand_out(self, job: EncodeVideo, chunk: Chunk, now: float) -> None:
        if not job.request.keyframe:
            self.state.learn_video(chunk)
        subscribers = self.state.encoders.encoded(job.encoder, chunk, now)
        for subscriber in subscribers:
            subscriber.enqueue(chunk)
        self.agenda.look_at(viewer for viewer in self.viewers if viewer.session in subscribers)
        self._video_look = -math.inf

    def _step_video(self, now: float) -> None:
        """Lets every shared encoder that has room take the newest frame."""
        self._video_look = math.inf
        if (newest := self.state.newest) is None:
            return
        fps = self.state.video_fps
        for encoder in self.state.encoders:
            if encoder.fps < fps and not encoder.busy:
                encoder.renew(newest)
            request, look = self.state.encoders.take(encoder, newest, now)
            self._video_look = min(self._video_look, look)
            if request:
                encoder.fps = fps if request.keyframe else encoder.fps
                job = EncodeVideo(encoder, request)
                self.jobs.begin(job, now)
                self._outputs.append(job)

    # The application --------------------------------------------------------------------------------------------------

    def _put(self, viewer: Viewer, message: Message, channel: str, *, latest: bool) -> None:
        try:
            viewer.session.outbox.put(message, channel, latest=latest)
        except ProtocolError as fault:
            self.fail(viewer, fault)
        self.agenda.look_at([viewer])

    def _show_cursor(self, viewer: Viewer) -> None:
        if viewer.session.takes(CHANNELS):
            self._put(viewer, cursor_message(self._cursor), _CURSOR, latest=True)
