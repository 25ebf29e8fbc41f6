// What the page and the player tell each other; the player may live in a worker or on the page's own thread.

import type { State } from "../connection";
import type { ViewerMessage } from "../protocol";

export type Command =
  | { type: "open"; url: string; token: string; ratio: number }
  | { type: "say"; message: ViewerMessage }
  | { type: "retry" }
  | { type: "close" };

/** Of the last second. */
export interface Figures {
  fps: number;
  megabitsPerSecond: number;
  decodeMs: number;
  encodeMs: number;
  roundTripMs: number;
  format: string;
}

export type Report =
  | { type: "state"; state: State; message: string }
  | { type: "frame"; width: number; height: number; pixelRatio: number }
  | { type: "figures"; figures: Figures };
