import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Meter } from "../src/worker/meter";

const payload = { drawMs: 4, bytes: 1000, format: "h264", still: false };
beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
afterEach(() => void vi.useRealTimers());

it("counts what made exact what was shown already as bytes, and as no frame", () => {
  const meter = new Meter();
  meter.shown(payload);
  for (let n = 0; n < 3; n++) meter.shown({ ...payload, format: "png", still: true });
  vi.advanceTimersByTime(1000);
  expect(meter.take()).toMatchObject({ fps: 1, megabitsPerSecond: 0.032, decodeMs: 4, format: "png" });
});

it("tells of the first second of rest, and of no more", () => {
  const meter = new Meter();
  meter.shown({ ...payload, still: true });
  vi.advanceTimersByTime(1000);
  expect(meter.take()).not.toBeNull();
  vi.advanceTimersByTime(1000);
  expect(meter.take()).toMatchObject({ fps: 0, megabitsPerSecond: 0 });
  vi.advanceTimersByTime(1000);
  expect(meter.take()).toBeNull();
});

it("says what the hub aims at: what it said last, and nothing where that is no limit", () => {
  const meter = new Meter();
  const targets = () => {
    meter.shown(payload);
    vi.advanceTimersByTime(1000);
    const { targetFps, targetMegabitsPerSecond } = meter.take()!;
    return [targetFps, targetMegabitsPerSecond];
  };
  expect(targets()).toEqual([0, 0]);
  meter.onTargets({ bitrate: 8_000_000, fps: 30 });
  meter.onHubStats({ type: "stats", rtt_ms: 3 });
  expect(targets()).toEqual([30, 8]);
  meter.onTargets({ bitrate: 2_000_000 });
  expect(targets()).toEqual([30, 2]);
  meter.onHubStats({ type: "stats", target_fps: 60 });
  expect(targets()).toEqual([60, 0]);
});
