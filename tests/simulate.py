"""Figures of scenarios in virtual time, so that a change of policy is judged in seconds: `python -m tests.simulate`.

A table: for each kind of viewer the frames drawn a second, their age when they were drawn, the bytes a second, and how
long after the last frame all of it was exact. With names of scenarios only those; `--crowd 1000` changes how many
viewers the crowd has. `audience` is a thousand viewers of a small picture that changes once a second.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

sys.path.insert(0, str(Path(__file__).parent))

from simulation import ONLY_VIDEO, PICTURES, VIDEO, Link, Machine, SimulatedViewer, Simulation

LAN = Link(rate=12.5e6, latency=0.001)
WIFI = Link(rate=2.5e6, latency=0.01, jitter=0.01)
TUNNEL = Link(rate=250_000, latency=0.06, jitter=0.01)
LOSSY = Link(rate=2.5e6, latency=0.03, jitter=0.02, loss=0.01)

MACHINE = Machine()
SLOW = Machine(cores=1, exact_seconds=25e-9, lossy_seconds=4e-9, video_seconds=22e-9)
"""One core, which a local viewer draws on too."""

Group = tuple[str, Callable[[Simulation], SimulatedViewer], int]


def group(name: str, link: Link, supported: tuple[str, ...] = VIDEO, count: int = 1, **more: float) -> Group:
    local = link == Link()
    return name, lambda simulation: simulation.join(link, supported, local=local, **more), count


@dataclass(frozen=True)
class Scenario:
    """The viewers, the seconds of motion, and what is published."""

    groups: list[Group]
    seconds: float
    fps: float
    size: tuple[int, int] = (1280, 720)
    machine: Machine = MACHINE


def scenarios(crowd: int, fps: float) -> dict[str, Scenario]:
    return {
        "local": Scenario([group("local", Link())], 10, fps),
        "lan": Scenario([group("LAN", LAN)], 10, fps),
        "wifi": Scenario([group("20 Mbit/s", WIFI)], 10, fps),
        "tunnel": Scenario([group("2 Mbit/s", TUNNEL), group("2 Mbit/s, pictures", TUNNEL, PICTURES)], 20, fps),
        "lossy": Scenario([group("1 % lost", LOSSY)], 20, fps),
        "mixed": Scenario(
            [
                group("LAN", LAN, count=4),
                group("20 Mbit/s", WIFI, count=2),
                group("2 Mbit/s", TUNNEL),
                group("slow page", LAN, draw=0.08),
                group("only video", WIFI, ONLY_VIDEO),
            ],
            20,
            fps,
        ),
        "slow": Scenario(
            [
                group("LAN", LAN),
                group("slow page", LAN, draw=0.05),
                group("slow, video in hardware", LAN, draw=0.05, draw_video=0.008),
                group("slow, video slower", LAN, draw=0.05, draw_video=0.15),
            ],
            20,
            fps,
        ),
        "one core": Scenario([group("local", Link(), draw=0.015, draw_video=0.012)], 20, fps, machine=SLOW),
        "crowd": Scenario([group(f"{crowd} of 20 Mbit/s", WIFI, count=crowd)], 60, fps),
        "audience": Scenario([group("1000 of 20 Mbit/s", WIFI, count=1000)], 60, 1, (320, 192)),
    }


def run(scenario: Scenario) -> list[str]:
    """The rows of one scenario: motion, then rest."""
    rows = []
    with Simulation(scenario.machine).running(*scenario.size) as simulation:
        simulation.publish()
        joined = [(name, [join(simulation) for _ in range(count)]) for name, join, count in scenario.groups]
        seconds = scenario.seconds
        simulation.play(seconds, scenario.fps)
        moved = {name: [(len(v.latencies), v.transport.nbytes) for v in viewers] for name, viewers in joined}
        began, newest = simulation.loop.now, simulation.stream.newest
        assert newest
        exact: dict[str, float] = {}
        while len(exact) < len(joined) and simulation.loop.now < began + 30:
            simulation.loop.run_for(0.02)
            for name, viewers in joined:
                if name not in exact and all(viewer.shows(newest) for viewer in viewers):
                    exact[name] = simulation.loop.now - began
        for name, viewers in joined:
            frames = sum(count for count, _ in moved[name]) / len(viewers) / seconds
            nbytes = sum(nbytes for _, nbytes in moved[name]) / len(viewers) / seconds
            ages = [age for v, (n, _) in zip(viewers, moved[name], strict=True) for age in v.latencies[:n]]
            cuts = quantiles(ages, n=20) if len(ages) > 1 else [0.0] * 19
            rest = f"{exact[name]:.2f}" if name in exact else "never"
            rows.append(
                f"{name} | {frames:.1f} | {1000 * cuts[9]:.0f} | {1000 * cuts[18]:.0f} | {8e-6 * nbytes:.1f} | {rest}"
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="scenarios; all without")
    parser.add_argument("--crowd", type=int, default=100, help="viewers of the crowd (100)")
    parser.add_argument("--fps", type=float, default=30, help="frames published a second (30)")
    options = parser.parse_args()
    known = scenarios(options.crowd, options.fps)
    if unknown := set(options.names) - known.keys():
        parser.error(f"a scenario is one of {', '.join(known)}, not {', '.join(sorted(unknown))}")
    print("| scenario | viewer | frames/s | age ms | 95 % | Mbit/s | exact after s | took s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.names or known:
        began = time.perf_counter()
        for row in run(known[name]):
            print(f"| {name} | {row} | {time.perf_counter() - began:.1f} |", flush=True)


if __name__ == "__main__":
    main()
