"""How many threads encode: as many as the processors that may be used, whatever the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pdum_rfb_widget._system import processors
from pdum_rfb_widget._system.processors import usable_processors

PROCESSORS = 4


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where control groups are, on a machine of four processors; the process is in none yet."""
    monkeypatch.setattr(processors, "CGROUPS", tmp_path)
    monkeypatch.setattr(processors, "OWN_CGROUPS", tmp_path / "own")
    for name in ("process_cpu_count", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: PROCESSORS)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("quota", "processors"), [("max 100000", 4), ("50000 100000", 1), ("150000 100000", 2), ("900000 100000", 4)]
)
def test_a_quota_of_a_control_group_counts_and_one_of_those_it_is_in(groups: Path, quota: str, processors: int) -> None:
    write(groups / "own", "0::/pod/container\n")
    write(groups / "pod/container/cpu.max", "max 100000\n")
    write(groups / "pod/cpu.max", f"{quota}\n")
    assert usable_processors() == processors


@pytest.mark.parametrize("path", ["/docker/0123", "/"], ids=["the host's path", "the container's"])
@pytest.mark.parametrize(("quota", "processors"), [("-1", 4), ("200000", 2)])
def test_a_quota_of_the_first_version_counts(groups: Path, path: str, quota: str, processors: int) -> None:
    write(groups / "own", f"9:name=systemd:/\n3:cpu,cpuacct:{path}\n2:cpuset:/\n0::/\n")
    write(groups / "cpu/cpu.cfs_quota_us", f"{quota}\n")
    write(groups / "cpu/cpu.cfs_period_us", "100000\n")
    assert usable_processors() == processors


def test_without_control_groups_it_is_the_machines(groups: Path) -> None:
    assert usable_processors() == PROCESSORS


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity of Linux")
def test_hub_video_and_films_have_threads_for_the_processors_of_the_affinity(tmp_path: Path) -> None:
    code = f"""
import os, sys, threading
os.cpu_count = lambda: 96
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
import numpy as np, pdum_rfb_widget as rfb
from pdum_rfb_widget.encoders.h264_cpu import H264CpuEncoder
from pdum_rfb_widget.types import RawFrame
sys.path.insert(0, {str(Path(__file__).parent)!r})
from inside import hub_of
def native():
    return len(os.listdir("/proc/self/task")) - threading.active_count()
display = rfb.serve(1280, 720, port=0)
before = native()
encoder = H264CpuEncoder(width=1920, height=1080)
pixels = np.zeros((1080, 1920, 3), np.uint8)
encoder.encode(RawFrame(0, 1920, 1080, timestamp_us=0, pixel_format="rgb24", memory="cpu", data=pixels))
print(hub_of(display).threads, native() - before)
with display.record({str(tmp_path / "film.mp4")!r}) as film:
    display.publish(np.zeros((720, 1280, 3), np.uint8))
    while not film.frames_written:
        display.wait_ready(0.01)
    print(native() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    hub, video, film = (int(threads) for threads in done.stdout.split())
    assert (hub, video) == (2, 0), "video is encoded by the thread that asks for it"
    assert film <= 4, "two that encode, and what x264 has besides; for eight they would be eleven"
