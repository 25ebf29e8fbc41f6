// Numbers for the stats panel: sums of the running second, and what the hub said last.

import type { Stats, Targets } from "../protocol";
import type { ViewStats } from "./messages";

export interface Shown {
  /** From arrival to canvas, without the time that it waited for others. */
  drawMs: number;
  bytes: number;
  format: string;
  /** It made exact what was shown already. */
  still: boolean;
}

export class Meter {
  #since = performance.now();
  #frames = 0;
  #payloads = 0;
  #bytes = 0;
  #drawMs = 0;
  #format = "";
  #resting = true;
  #roundTripMs = 0;
  #encodeMs = 0;
  #targetFps = 0;
  #targetBitrate = 0;

  shown({ drawMs, bytes, format, still }: Shown): void {
    this.#payloads++;
    if (!still) this.#frames++;
    this.#drawMs += drawMs;
    this.#bytes += bytes;
    this.#format = format;
  }

  onHubStats(stats: Stats): void {
    this.#roundTripMs = stats.rtt_ms ?? 0;
    this.#encodeMs = stats.encode_ms ?? 0;
    const { target_bitrate: bitrate, target_fps: fps } = stats;
    if (bitrate !== undefined || fps !== undefined) this.onTargets({ bitrate: bitrate ?? 0, fps: fps ?? 0 });
  }

  onTargets({ bitrate, fps }: Pick<Targets, "bitrate" | "fps">): void {
    this.#targetBitrate = bitrate ?? this.#targetBitrate;
    this.#targetFps = fps ?? this.#targetFps;
  }

  /** The statistics since the last call; null when nothing came in this second nor the one before. */
  take(): Omit<ViewStats, "note"> | null {
    const now = performance.now();
    const seconds = (now - this.#since) / 1000;
    const wasResting = this.#resting;
    this.#resting = this.#payloads === 0;
    const stats = {
      fps: this.#frames / seconds,
      targetFps: this.#targetFps,
      megabitsPerSecond: (this.#bytes * 8) / 1e6 / seconds,
      targetMegabitsPerSecond: this.#targetBitrate / 1e6,
      decodeMs: this.#payloads ? this.#drawMs / this.#payloads : 0,
      encodeMs: this.#encodeMs,
      roundTripMs: this.#roundTripMs,
      format: this.#format,
    };
    this.#since = now;
    this.#frames = this.#payloads = this.#bytes = this.#drawMs = 0;
    return wasResting && this.#resting ? null : stats;
  }
}
