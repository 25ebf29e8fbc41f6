"""The soak, for a minute: what `bash tests/run soak` does for ten."""

from __future__ import annotations

import pytest
from soak import soak


@pytest.mark.soak
def test_viewers_of_all_kinds_come_and_go_and_nothing_is_left_of_them() -> None:
    report = soak(seconds=60, viewers=12)
    assert report.connections > 20, report
    assert report.changes > 3, report
    assert not report.wrong, report
    assert not report.leaked, report
    assert report.growth < 0.15, f"a minute is hardly enough to get warm: {report}"
