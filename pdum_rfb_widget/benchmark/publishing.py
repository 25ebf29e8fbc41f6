"""Publishing at a given rate, as an application does, and the processor time that it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

now = time.perf_counter
"""The benchmark's clock, in seconds."""


@dataclass(slots=True)
class Published:
    """A record of published frames."""

    at: dict[int, float] = field(default_factory=dict)
    """Time just before each publish, by frame number."""
    cpu: float = 0.0
    """Processor seconds of the publishing thread inside publish()."""


def publish_numbers(
    numbers: range, fps: float, prepare: Callable[[int], T], send: Callable[[T], object], *, spin: bool = False
) -> Published:
    """Call `send(prepare(number))` for *numbers*, *fps* times per second, in this thread. Takes `duration` seconds.

    With *spin* it computes in pure Python in between, and holds the GIL as long as Python allows.

    A number whose whole interval has passed is skipped, as an application skips a frame: there are no bursts.
    """
    published = Published()
    for number in _in_time(numbers, fps, _spin if spin else time.sleep):
        frame = prepare(number)
        published.at[number] = now()
        before = time.thread_time()
        send(frame)
        published.cpu += time.thread_time() - before
    return published


def duration(numbers: range, fps: float) -> float:
    """Seconds that `publish_numbers` takes: one interval more than *numbers* has.

    So a run at a display's own rate passes once through all phases of its refresh. In step with the refresh, latency
    would vary by up to 17 ms with the start of the run.
    """
    return (len(numbers) + 1) / fps


def _in_time(numbers: range, fps: float, pause: Callable[[float], object]) -> Iterator[int]:
    start, interval = now(), duration(numbers, fps) / len(numbers)
    for step, number in enumerate(numbers):
        wait = start + step * interval - now()
        if wait > 0:
            pause(wait)
        if wait > -interval:
            yield number


def _spin(seconds: float) -> None:
    end = now() + seconds
    while now() < end:
        pass


def in_thread(work: Callable[[], T]) -> Callable[[], T]:
    """Start *work* in a new thread. Returns a function that waits for its result, or raises its error."""
    answers: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="benchmark-publisher", daemon=True)
    thread.start()

    def wait() -> T:
        thread.join()
        if errors:
            raise errors[0]
        return answers[0]

    return wait


class ThreadClocks:
    """Processor time of this process's threads since the creation of this object, by prefix of their names."""

    def __init__(self) -> None:
        self._start = _thread_times()
        self._process = time.process_time()

    def seconds(self, prefix: str) -> float:
        """Seconds of all threads whose names begin with *prefix*, except those that have ended."""
        return sum(
            spent - self._start.get(ident, ("", 0.0))[1]
            for ident, (name, spent) in _thread_times().items()
            if name.startswith(prefix)
        )

    def seconds_with_libraries(self, prefix: str) -> float:
        """The same, plus all threads not created by Python, such as those of codecs. Python's threads that have ended
        meanwhile count among these."""
        others = self.seconds("") - self.seconds(prefix)
        return self.process_seconds - others

    @property
    def process_seconds(self) -> float:
        """Seconds of all threads of the process."""
        return time.process_time() - self._process


def _thread_times() -> dict[int, tuple[str, float]]:
    return {
        thread.ident: (thread.name, time.clock_gettime(time.pthread_getcpuclockid(thread.ident)))
        for thread in threading.enumerate()
        if thread.ident is not None
    }
