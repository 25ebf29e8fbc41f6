// The statistics over the picture: numbers of the last second, and small graphs of the half minute before.

import type { ViewStats } from "../worker/messages";
import { element } from "./element";
import { Graph } from "./graph";

export class StatsPanel {
  readonly element = element("div", "rfb-stats");
  #rows = {
    latency: new Row("ms round trip"),
    frames: new Row("fps"),
    rate: new Row("Mbit/s"),
  };
  #details = element("div", "rfb-details");
  #note = element("div", "rfb-note");

  constructor() {
    const rows = Object.values(this.#rows).map((row) => row.element);
    this.element.append(...rows, this.#details, this.#note);
  }

  get shown(): boolean {
    return !this.element.hidden;
  }

  set shown(shown: boolean) {
    this.element.hidden = !shown;
    if (shown) this.#draw();
  }

  /** Once a second while pictures come; what is hidden is kept, and drawn when it is shown. */
  take(stats: ViewStats, size: string): void {
    const { latency, frames, rate } = this.#rows;
    // The hub tells these two only once it has measured them.
    if (stats.roundTripMs) latency.take(stats.roundTripMs, 0, 0);
    // The rate that a stream is meant to have is no measure for one that is faster, or at rest.
    frames.take(stats.fps, stats.fps && stats.fps < stats.targetFps ? stats.targetFps : 0, 0);
    rate.take(stats.megabitsPerSecond, stats.targetMegabitsPerSecond, 1);
    const times = [`decode ${stats.decodeMs.toFixed(1)} ms`];
    if (stats.roundTripMs) times.unshift(`encode ${stats.encodeMs.toFixed(1)} ms`);
    this.#details.textContent = `${times.join(", ")}\n${size} ${stats.format}`;
    this.#note.textContent = stats.note;
    this.#note.hidden = !stats.note;
    if (this.shown) this.#draw();
  }

  #draw(): void {
    for (const row of Object.values(this.#rows)) row.draw();
  }
}

/** One number with its unit, what the hub aims at, and its graph; hidden until there is one. */
class Row {
  readonly element = element("div", "rfb-row");
  #value = element("span", "rfb-value");
  #target = element("span", "rfb-target");
  #graph = new Graph();
  #unit: string;

  constructor(unit: string) {
    this.#unit = unit;
    this.element.hidden = true;
    this.element.append(this.#value, this.#target, this.#graph.element);
  }

  take(value: number, target: number, digits: number): void {
    this.element.hidden = false;
    this.#graph.add(performance.now() / 1000, value, target);
    this.#value.textContent = `${value.toFixed(digits)} ${this.#unit}`;
    this.#target.textContent = target ? `target ${+target.toFixed(digits)}` : "";
  }

  draw(): void {
    this.#graph.draw();
  }
}
