// The canvas, and the size that the page knows it by.

import type { Color, Config } from "../protocol";
import type { Context, Decoded } from "./pixels";

export type AnyCanvas = OffscreenCanvas | HTMLCanvasElement;

export class Screen {
  #canvas: AnyCanvas;
  #context: Context | null = null;
  #resized: (width: number, height: number, pixelRatio: number) => void;
  #reported = "";

  /** *resized* is called with the size of the first picture, and of the first of another; `forget` makes the next one the first. */
  constructor(canvas: AnyCanvas, resized: (width: number, height: number, pixelRatio: number) => void) {
    this.#canvas = canvas;
    this.#resized = resized;
  }

  /** The first config decides: a canvas has one kind of context for its life. Another color space is converted to it. */
  prepare({ alpha = false, color }: Config): void {
    this.#context ??= this.#canvas.getContext("2d", { alpha, colorSpace: spaceOf(color) }) as Context;
  }

  show(picture: Decoded, width: number, height: number, pixelRatio: number): void {
    if (!this.#context) throw new Error("the hub sent a picture before its config");
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas.width = width;
      this.#canvas.height = height;
    }
    picture.paint(this.#context);
    // Once, not at each frame: every message wakes the page's own thread.
    const size = `${width} ${height} ${pixelRatio}`;
    if (size !== this.#reported) this.#resized(width, height, pixelRatio);
    this.#reported = size;
  }

  forget(): void {
    this.#reported = "";
  }
}

/** The canvas that shows *color* as it is. */
export function spaceOf(color: Color | undefined): PredefinedColorSpace {
  return color?.primaries === "smpte432" ? "display-p3" : "srgb";
}
