// Messages between the page and the player, which may live in a worker or on the page's own thread.

import type { Probe } from "../decode/probes";
import type { CandidateName, Target } from "../net/candidates";
import type { State } from "../net/connection";
import type { Try } from "../net/diagnosis";
import type { ViewerMessage } from "../protocol";

export type Command =
  /** *ratio* is of the page's screen. */
  | { type: "open"; target: Target; ratio: number; imageOnly: boolean }
  | { type: "probe"; probes: Probe[] }
  | { type: "offer"; video: string[] }
  | { type: "send"; message: ViewerMessage }
  /** The application's, as it goes; see `Outbox.enqueue`. */
  | { type: "enqueue"; message: string | Uint8Array<ArrayBuffer>; latestOf: string }
  | { type: "retry" }
  /** The page is back: from sleep, from being offline, or from the background. */
  | { type: "wake" }
  | { type: "close" };

/** Statistics of the last second. What the hub aims at is 0 where it doesn't say. */
export interface ViewStats {
  /** Frames drawn a second. */
  fps: number;
  targetFps: number;
  megabitsPerSecond: number;
  targetMegabitsPerSecond: number;
  /** Milliseconds from arrival to canvas, in the mean. */
  decodeMs: number;
  /** In the hub; 0 until it has measured it, as for `roundTripMs`. */
  encodeMs: number;
  roundTripMs: number;
  /** Of the last picture, such as `jpeg` or `h264`. */
  format: string;
  /** Why there is no video, if that is not the hub's choice. */
  note: string;
}

export type Report =
  | { type: "state"; state: State; message: string }
  /** What was tried, oldest first, and the candidate that works now. */
  | { type: "tried"; tries: Try[]; candidate: CandidateName | null }
  /** It works, but the user should know. */
  | { type: "remark"; text: string }
  /** There is no worker; *why*, and what to do. */
  | { type: "onThisThread"; why: string }
  /** Of frames before the first comes. `matched`: the publisher makes them for the viewer's box. */
  | { type: "shape"; width: number; height: number; matched: boolean }
  | { type: "frame"; width: number; height: number; pixelRatio: number }
  /** What the connection has beyond pictures; no messages while there is none. */
  | { type: "features"; channelBytes: number; clipboard: boolean }
  | { type: "message"; channel: string; data: unknown }
  | { type: "cursor"; cursor: string | null }
  | { type: "clipboard"; text: string }
  | { type: "probed"; video: string[] }
  | { type: "stats"; stats: ViewStats }
  /** The player is gone, and the canvas that it had. */
  | { type: "died" };

/** To a worker: a view's canvas, then what that view's player gets. */
export type ToWorker = { view: number; canvas: OffscreenCanvas } | { view: number; command: Command } | "alive?";
export type FromWorker = { view: number; report: Report } | "ready" | "alive";
