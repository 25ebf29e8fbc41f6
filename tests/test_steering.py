"""What follows where no quality fits: pictures or video, who leaves a lane, and what is given up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pdum_rfb_widget._core.policy.degradation import Backoff, CodecSelector, Degradation, Step
from pdum_rfb_widget._core.policy.hysteresis import SOON, Hysteresis
from pdum_rfb_widget._core.policy.processor import VideoWorth


def run(judge: Callable[[float], object], start: float, seconds: float) -> object:
    """*judge* asked sixty times a second; its last answer."""
    return [judge(start + step / 60) for step in range(int(seconds * 60))][-1]


def test_a_better_state_must_be_possible_for_the_patience_without_a_break() -> None:
    hysteresis = Hysteresis(least=2, most=16)
    assert not hysteresis.moves("better", 0)
    assert not hysteresis.moves(None, 1.9)
    assert not hysteresis.moves("better", 2)
    assert not hysteresis.moves("better", 3.9)
    assert hysteresis.moves("better", 4)
    assert not hysteresis.moves("better", 4.1), "the next one takes as long again"


def test_a_worse_state_must_be_needed_for_its_time_without_a_break() -> None:
    hysteresis = Hysteresis(least=2, most=16, endures=1)
    assert not hysteresis.moves("worse", 0)
    assert not hysteresis.moves("better", 0.9)
    assert not hysteresis.moves("worse", 1)
    assert hysteresis.moves("worse", 2)
    assert not hysteresis.moves("worse", 2.1)


@pytest.mark.parametrize(("lasted", "patience"), [(SOON - 0.1, [2, 4, 8, 16, 16]), (40, [1, 1, 1, 1, 1])])
def test_patience_doubles_when_the_better_state_failed_soon_and_halves_otherwise(
    lasted: float, patience: list[float]
) -> None:
    hysteresis, now, seen = Hysteresis(least=1, most=16), 0.0, []
    for _ in patience:
        hysteresis.improved(now)
        hysteresis.worsened(now + lasted)
        seen.append(hysteresis.patience)
        now += 100
    assert seen == patience
    hysteresis.improved(now)
    hysteresis.worsened(now + 33)
    assert hysteresis.patience == max(1, patience[-1] / 2)


def test_a_state_has_failed_if_it_lasted_less_than_twice_what_was_waited_for_it() -> None:
    hysteresis = Hysteresis(least=8, most=16)
    hysteresis.improved(0)
    hysteresis.worsened(15.9)
    assert hysteresis.patience == 16


def much_moves(medium: CodecSelector) -> Callable[[float], bool]:
    return lambda now: medium.judge(0.9, 4, 1, False, now)


def little_moves(medium: CodecSelector) -> Callable[[float], bool]:
    return lambda now: medium.judge(0.01, 0, 1, True, now)


def test_video_is_for_what_moves_much_and_does_not_fit_as_good_pictures() -> None:
    assert run(much_moves(medium := CodecSelector()), 0, 1)
    assert not run(little_moves(medium), 1, 3)
    assert not run(lambda now: CodecSelector().judge(0.9, 1, 1, True, now), 0, 9), "good pictures fit"
    assert not run(lambda now: CodecSelector().judge(0.9, 4, 1, True, now), 0, 9), "they do, and are about to be sent"
    assert not run(lambda now: CodecSelector().judge(0.05, 4, 1, False, now), 0, 9), "little moves"
    assert not run(lambda now: CodecSelector().judge(0.9, 2, 3, False, now), 0, 9), "video would be worse"


def test_a_moment_of_motion_changes_nothing() -> None:
    medium = CodecSelector()
    assert not run(much_moves(medium), 0, CodecSelector.TO_VIDEO - 0.05)
    assert not run(little_moves(medium), 1, 0.05)
    assert not run(much_moves(medium), 1.05, CodecSelector.TO_VIDEO - 0.05)


def test_going_to_and_fro_gets_rarer() -> None:
    medium, changes, now, before = CodecSelector(), 0, 0.0, False
    for _ in range(60 * 60):
        now += 1 / 60
        after = medium.judge(0.9, 1 if medium.video else 4, 1, medium.video, now)
        changes, before = changes + (after != before), after
    assert changes <= 12, "in a minute"


def test_video_that_makes_frames_rarer_is_given_up_at_once_when_that_is_certain() -> None:
    medium, worth = CodecSelector(), VideoWorth()

    def judge(gain: float) -> Callable[[float], bool]:
        return lambda now: medium.judge(0.9, 4, 1, False, now, worth=worth.judge(gain, now))

    assert run(judge(1.0), 0, 1), "as good as images: the link decides"
    assert run(judge(0.5), 1, VideoWorth.REGRET - 0.05), "a moment is not certain"
    assert run(judge(0.9), 2, 9), "slightly worse is not worth a change"
    assert not run(judge(0.5), 11, VideoWorth.REGRET + 0.1)
    assert not run(judge(0.9), 12, 9)
    assert run(judge(1.0), 21, 2 * VideoWorth.PATIENCE[0] + 1), "when it promises to be as good again"


def test_video_that_disappoints_each_time_is_tried_ever_more_rarely() -> None:
    worth, trials = VideoWorth(), []
    for step in range(60 * 600):
        before = worth.worth
        if worth.judge(0.5 if worth.worth else 1.0, step / 60) and not before:
            trials.append(step / 60)
    assert len(trials) <= 15, "in ten minutes"
    assert trials[-1] - trials[-2] > VideoWorth.PATIENCE[1]


def test_who_held_up_a_lane_comes_back_only_once_it_is_fast_enough() -> None:
    setback = Backoff()
    assert setback.judge(0.001, 60, 0) == 0
    setback.evicted(1, 0)
    assert run(lambda now: setback.judge(1 / 30, 60, now), 0, 120) == 2, "at half rate it never does"
    assert run(lambda now: setback.judge(1 / 120, 60, now), 120, 20) == 0


def test_who_fell_soon_again_stays_away_for_longer() -> None:
    setback, stays = Backoff(), []
    for _ in range(6):
        setback.evicted(1, 0)
        stays.append(next(step / 10 for step in range(1000) if setback.judge(0.001, 60, step / 10) == 0))
    assert stays == sorted(stays)
    assert stays[0] < 5 < stays[-1] <= Backoff.PATIENCE[1]


def test_who_kept_up_for_long_stays_away_for_a_shorter_time_when_it_falls_again() -> None:
    setback, stays, now = Backoff(), [], 0.0
    for lasted in (1, 1, 100, 100):
        setback.evicted(1, now)
        back = next(now + step / 10 for step in range(1000) if setback.judge(0.001, 60, now + step / 10) == 0)
        stays.append(round(back - now))
        now = back + lasted
    assert stays == [4, 8, 16, 8]


def suffers(relief: Degradation, *, enough_at: int) -> Callable[[float], Step]:
    def enough(step: Step, margin: float) -> bool:
        return Degradation.STEPS.index(step) >= enough_at

    return lambda now: relief.judge(enough, now)


def test_frames_go_first_then_the_window_then_size() -> None:
    relief = Degradation()
    given_up = [run(suffers(relief, enough_at=99), second, 1) for second in range(10)]
    assert [step for n, step in enumerate(given_up) if step not in given_up[:n]] == list(Degradation.STEPS)
    fps, narrow, scale = zip(*((step.fps, step.narrow, -step.scale) for step in Degradation.STEPS), strict=True)
    assert list(fps) == sorted(fps, reverse=True)
    assert narrow == tuple(sorted(narrow))
    assert scale == tuple(sorted(scale))


def test_no_more_is_given_up_than_helps_and_it_comes_back() -> None:
    relief = Degradation()
    assert run(suffers(relief, enough_at=2), 0, 20) == Degradation.STEPS[2]
    assert run(suffers(relief, enough_at=0), 20, 60) == Degradation.STEPS[0]


def test_a_bad_moment_costs_nothing() -> None:
    relief = Degradation()
    run(suffers(relief, enough_at=99), 0, Degradation.SUFFERING - 0.05)
    assert run(suffers(relief, enough_at=0), 1, 0.1) == Degradation.STEPS[0]


def test_size_is_given_up_only_where_the_publisher_is_to_be_told() -> None:
    relief = Degradation()
    for step in range(60 * 20):
        relief.judge(lambda step, margin: False, step / 60, with_size=False)
    assert relief.step.narrow
    assert relief.step.scale == 1
