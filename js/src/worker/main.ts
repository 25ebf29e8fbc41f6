// The worker: a player behind postMessage. It says "ready" before it is given the canvas, so that a page whose policy
// forbids the worker still has the canvas to draw on itself.

import type { Command, Report } from "./messages";
import { Player } from "./player";

const scope = self as unknown as {
  postMessage(report: Report | "ready"): void;
  onmessage: ((event: MessageEvent<Command | { canvas: OffscreenCanvas }>) => void) | null;
};

let player: Player | null = null;

scope.onmessage = ({ data }) => {
  if ("canvas" in data) {
    player = new Player(data.canvas, (report) => scope.postMessage(report));
    return;
  }
  player?.handle(data);
};

scope.postMessage("ready");
