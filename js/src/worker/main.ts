// The worker: the players of some views, behind postMessage. It says "ready" before it is given a canvas, so that a page whose
// policy forbids the worker still has the canvas to draw on itself.

import type { FromWorker, ToWorker } from "./messages";
import { Player } from "./player";

const scope = self as unknown as {
  postMessage(message: FromWorker): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
};

const players = new Map<number, Player>();

scope.onmessage = ({ data }) => {
  if (data === "alive?") return scope.postMessage("alive");
  const { view } = data;
  if ("canvas" in data) {
    players.set(view, new Player(data.canvas, (report) => scope.postMessage({ view, report })));
    return;
  }
  players.get(view)?.handle(data.command);
  if (data.command.type === "close") players.delete(view);
};

scope.postMessage("ready");
