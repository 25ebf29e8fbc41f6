"""A viewer's figures, and how Prometheus reads them."""

from __future__ import annotations

import pickle

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pdum_rfb_widget.metrics import SessionMetrics, prometheus_text


def sent(metrics: SessionMetrics, count: int, start: float, *, nbytes: int = 1000, still: bool = False) -> None:
    for number in range(count):
        metrics.record_sent(payload_bytes=nbytes, keyframe=number == 0, now=start + number / 10, still=still)


def test_rates_are_those_of_the_last_second() -> None:
    metrics = SessionMetrics(started_at=0)
    sent(metrics, 10, 100)
    rates = metrics.rates(now=100.95)
    assert rates == {"fps_sent": 10, "fps_acked": 0, "bitrate_bps": 80_000}
    assert metrics.rates(now=102)["fps_sent"] == 0
    assert metrics.rates(now=101.45)["fps_sent"] == 5


def test_rates_of_a_viewer_that_just_came_are_over_the_time_that_it_is_there() -> None:
    metrics = SessionMetrics(started_at=100)
    sent(metrics, 2, 100.2)
    assert metrics.rates(now=100.5)["fps_sent"] == pytest.approx(4)
    assert SessionMetrics(started_at=5).rates(now=5) == {"fps_sent": 0, "fps_acked": 0, "bitrate_bps": 0}


def test_stills_count_as_bytes_and_not_as_frames() -> None:
    metrics = SessionMetrics()
    sent(metrics, 3, 10, still=True)
    metrics.record_ack(rtt_ms=None, decode_queue_size=0, now=10.5, still=True)
    figures = metrics.snapshot(now=10.5)
    assert (figures["frames_sent"], figures["keyframes_sent"], figures["frames_acked"]) == (0, 0, 0)
    assert (figures["bytes_sent"], figures["fps_sent"], figures["fps_acked"]) == (3000, 0, 0)
    assert figures["bitrate_bps"] == 24_000


def test_the_round_trip_follows_slowly_and_starts_at_the_first() -> None:
    metrics = SessionMetrics()
    trips = []
    for rtt in (10.0, 10.0, None, 60.0):
        metrics.record_ack(rtt_ms=rtt, decode_queue_size=2, now=1)
        trips.append(metrics.rtt_ms)
    assert trips == [10, 10, 10, 20]
    assert (metrics.frames_acked, metrics.decode_queue_size) == (4, 2)


def test_what_is_kept_of_a_viewer_does_not_grow_with_time() -> None:
    metrics = SessionMetrics()
    sizes = []
    for _ in range(2):
        sent(metrics, 2000, 0)
        for number in range(2000):
            metrics.record_ack(rtt_ms=1.0, decode_queue_size=0, now=number / 10)
        sizes.append(len(pickle.dumps(metrics)))
    assert sizes[0] < 20_000
    assert sizes[1] == pytest.approx(sizes[0], abs=16)
    assert (metrics.frames_sent, metrics.frames_acked) == (4000, 4000)


def test_a_snapshot_has_every_figure_and_its_age() -> None:
    metrics = SessionMetrics(started_at=3, updated_at=3)
    metrics.record_dropped(now=4, frames=5)
    metrics.record_encode(7.5, now=4)
    figures = metrics.snapshot(now=5)
    assert (figures["frames_dropped"], figures["encode_ms"], figures["age_s"], figures["updated_at"]) == (5, 7.5, 2, 4)
    assert not [name for name in figures if name.startswith("_")]


def viewer(stream: str, **figures: float) -> dict[str, object]:
    return {"stream": stream, "client_id": "viewer-1"} | SessionMetrics().snapshot(now=0) | figures


@pytest.mark.parametrize("stream", ["default", "größe", 'a"b', "back\\slash", "two\nlines", "\u2028", "日本"])
def test_prometheus_reads_back_the_name_of_any_stream(stream: str) -> None:
    (family,) = [
        family
        for family in text_string_to_metric_families(prometheus_text([viewer(stream, frames_sent=3)]))
        if family.name == "pdum_rfb_frames_sent"
    ]
    (sample,) = family.samples
    assert (sample.labels, sample.value) == ({"stream": stream, "client": "viewer-1"}, 3.0)
    assert sample.name == "pdum_rfb_frames_sent_total"


def test_every_figure_has_one_type_and_one_sample_a_viewer() -> None:
    rows = [viewer("a", rtt_ms=1.5), viewer("b", rtt_ms=2.5)]
    text = prometheus_text(rows)
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families) == text.count("# TYPE")
    assert {len(family.samples) for family in families} == {2}
    assert text.endswith("\n")
    (trips,) = [family for family in families if family.name == "pdum_rfb_rtt_ms"]
    assert {sample.labels["stream"]: sample.value for sample in trips.samples} == {"a": 1.5, "b": 2.5}
