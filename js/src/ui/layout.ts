// Where the picture lies in its box, and which shape the box has: what changes with the frame, the fit, and the page.

import { type Fit, Viewport } from "../input/viewport";
import type { Report } from "../worker/messages";
import type { Box } from "./box";
import { type Size, sizeOf } from "./size";

/** Device pixels a frame's pixel must cover before its edges are shown hard. */
const CRISP_FROM = 3;

export class Layout {
  readonly viewport = new Viewport();
  #stage: HTMLElement;
  #canvas: HTMLCanvasElement;
  #box: Box;
  #onZoom: (zoom: number) => void;
  #pixelRatio = 1;
  /** The publisher makes the picture for the box. */
  #matched = false;

  constructor(stage: HTMLElement, canvas: HTMLCanvasElement, box: Box, onZoom: (zoom: number) => void) {
    this.#stage = stage;
    this.#canvas = canvas;
    this.#box = box;
    this.#onZoom = onZoom;
  }

  /** The frame's pixels that make a logical one. */
  get pixelRatio(): number {
    return this.#pixelRatio;
  }

  setFit(fit: Fit): void {
    this.viewport.fit = fit;
    this.#shapeBox();
    this.reset();
  }

  /** Undo zoom and pan. */
  reset(): void {
    this.viewport.reset();
    this.place();
  }

  /** Zoom by *factor*, keeping the middle where it is. */
  zoomBy(factor: number): void {
    const { width, height } = this.viewport.box;
    this.viewport.zoomBy(factor, width / 2, height / 2);
    this.place();
  }

  /** Of frames to come: one that is there counts more, but for whether it follows the box. */
  setShape({ width, height, matched }: Extract<Report, { type: "shape" }>): void {
    const changed = matched !== this.#matched;
    this.#matched = matched;
    if (!this.viewport.frame.width) this.#box.setPicture(width, height, matched);
    else if (changed) this.#shapeBox();
  }

  setFrame({ width, height, pixelRatio }: Extract<Report, { type: "frame" }>): void {
    this.#pixelRatio = pixelRatio;
    const { frame } = this.viewport;
    if (frame.width === width && frame.height === height) return;
    this.viewport.setFrame(width, height);
    this.#shapeBox();
    this.#canvas.classList.add("rfb-has-picture");
    this.place();
  }

  /** Another canvas has taken the place of the one before; the next `measure` is the first of its box. */
  setCanvas(canvas: HTMLCanvasElement): void {
    this.#canvas = canvas;
    this.viewport.setBox(0, 0, 1);
  }

  /** Follow the page: the size of the box now, if it is another than the last time. */
  measure(): Size | null {
    const size = sizeOf(this.#stage);
    const { width, height, ratio } = size;
    const { box } = this.viewport;
    if (!width || !height || (width === box.width && height === box.height && ratio === box.ratio)) return null;
    this.#box.measured();
    this.viewport.setBox(width, height, ratio);
    this.place();
    return size;
  }

  /** Call *changed* when the screen's ratio of pixels changes, until *signal* aborts. */
  watchRatio(changed: () => void, signal: AbortSignal): void {
    const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    const onChange = () => {
      changed();
      this.#shapeBox(); // one to one is in pixels of the screen
      this.watchRatio(changed, signal);
    };
    if (!signal.aborted) query.addEventListener("change", onChange, { once: true, signal });
  }

  /** Put the canvas where the viewport has the picture now. */
  place(): void {
    const { left, top, width, height } = this.viewport.placement();
    Object.assign(this.#canvas.style, { width: `${width}px`, height: `${height}px`, left: `${left}px`, top: `${top}px` });
    this.#canvas.classList.toggle("rfb-crisp", this.viewport.magnification() >= CRISP_FROM);
    this.#onZoom(this.viewport.zoom);
  }

  /** Give the box the picture's shape, unless it has it: what an application makes for the box must not change that. */
  #shapeBox(): void {
    const { frame, fit } = this.viewport;
    const oneToOne = fit === "none";
    this.#box.setOneToOne(oneToOne);
    if (!frame.width || (this.viewport.fitsBox && !this.#matched)) return;
    const scale = oneToOne ? devicePixelRatio : this.#pixelRatio;
    this.#box.setPicture(frame.width / scale, frame.height / scale, this.#matched);
  }
}
