// Starts a player for a canvas, in a worker where that is possible, else on this thread.

import workerSource from "inline:./worker/main.ts";
import type { Command, Report } from "./worker/messages";
import { Player } from "./worker/player";

const START_TIMEOUT_MS = 3000;

export interface Engine {
  post(command: Command): void;
}

/** Commands may be posted at once. With *onThisThread* no worker is tried. */
export function startEngine(canvas: HTMLCanvasElement, onThisThread: boolean, report: (report: Report) => void): Engine {
  const waiting: Command[] = [];
  let post = (command: Command): void => void waiting.push(command);
  const settle = (target: (command: Command) => void) => {
    post = target;
    waiting.splice(0).forEach(target);
  };
  const onMain = () => {
    const player = new Player(canvas, report);
    settle((command) => player.handle(command));
  };
  if (onThisThread || typeof Worker === "undefined" || !("transferControlToOffscreen" in canvas)) onMain();
  else startWorker(canvas, report, settle, onMain);
  return { post: (command) => post(command) };
}

function startWorker(
  canvas: HTMLCanvasElement,
  report: (report: Report) => void,
  onReady: (post: (command: Command) => void) => void,
  onFailure: () => void,
): void {
  const source = URL.createObjectURL(new Blob([workerSource], { type: "text/javascript" }));
  let worker: Worker | null = null;
  let pending = true;
  const settled = () => {
    pending = false;
    clearTimeout(timer);
    URL.revokeObjectURL(source);
  };
  const fail = () => {
    if (!pending) return;
    settled();
    worker?.terminate();
    onFailure();
  };
  // A policy that forbids Blob workers throws in one browser, sends an error in the next, and is silent in a third.
  const timer = setTimeout(fail, START_TIMEOUT_MS);
  try {
    const started = new Worker(source);
    worker = started;
    started.onerror = fail;
    started.onmessage = ({ data }: MessageEvent<Report | "ready">) => {
      if (data !== "ready") return report(data);
      if (!pending) return;
      settled();
      const offscreen = canvas.transferControlToOffscreen();
      started.postMessage({ canvas: offscreen }, [offscreen]);
      onReady((command) => started.postMessage(command));
    };
  } catch {
    fail();
  }
}
