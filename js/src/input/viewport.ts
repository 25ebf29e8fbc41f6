// The one place of geometry between the frame's pixels and the box that it is shown in. Drawing and input both ask here.

/** As the values of CSS's `object-fit`; with `none` a pixel of the frame is one of the screen. */
export type Fit = "contain" | "cover" | "fill" | "none";

export interface Rect {
  left: number;
  top: number;
  width: number;
  height: number;
}

const MAX_ZOOM = 64;
/** Device pixels that a frame made for the box may lack when it was made even, and it is shown one to one all the same. */
const MAY_LACK = 2;
/** Those that it may have too many, rounded to the nearest: fewer than can be seen to be cut off. */
const MAY_EXCEED = 0.5;

/** Lengths are CSS pixels of the box, unless they are said to be the frame's. */
export class Viewport {
  fit: Fit = "contain";
  #box = { width: 0, height: 0, ratio: 1 };
  #frame = { width: 0, height: 0 };
  #zoom = 1;
  // Of the frame, 0 to 1: the point that the box's middle shows.
  #centre = { x: 0.5, y: 0.5 };

  get zoom(): number {
    return this.#zoom;
  }

  get box(): Readonly<{ width: number; height: number; ratio: number }> {
    return this.#box;
  }

  get frame(): Readonly<{ width: number; height: number }> {
    return this.#frame;
  }

  setBox(width: number, height: number, ratio: number): void {
    this.#box = { width, height, ratio };
    this.#clamp();
  }

  setFrame(width: number, height: number): void {
    this.#frame = { width, height };
    this.#clamp();
  }

  /** Zoom by *factor*, keeping what is under (*x*, *y*) where it is. */
  zoomBy(factor: number, x: number, y: number): void {
    const before = this.#exact();
    const zoom = Math.min(MAX_ZOOM, Math.max(1, this.#zoom * factor));
    const change = zoom / this.#zoom;
    this.#zoom = zoom;
    const middle = { x: this.#box.width / 2, y: this.#box.height / 2 };
    // The frame's point under the middle, after everything moved away from (x, y) by `change`.
    this.#centre = {
      x: ((middle.x - x) / change + x - before.left) / before.width,
      y: ((middle.y - y) / change + y - before.top) / before.height,
    };
    this.#clamp();
  }

  /** Move the picture by (*dx*, *dy*), as far as it fills the box. */
  panBy(dx: number, dy: number): void {
    const { width, height } = this.#exact();
    this.#centre = { x: this.#centre.x - dx / width, y: this.#centre.y - dy / height };
    this.#clamp();
  }

  /** Part of the picture lies outside the box. */
  get overflows(): boolean {
    const { width, height } = this.#size();
    return width > this.#box.width + 1 || height > this.#box.height + 1;
  }

  /** The frame has as many pixels as the box has of the screen, but for what is lost in making them whole and even. */
  get fitsBox(): boolean {
    const { width, height, ratio } = this.#box;
    const spare = [width * ratio - this.#frame.width, height * ratio - this.#frame.height];
    return spare.every((length) => length >= -MAY_EXCEED && length <= MAY_LACK);
  }

  reset(): void {
    this.#zoom = 1;
    this.#centre = { x: 0.5, y: 0.5 };
  }

  /** Where the whole frame lies in the box, on whole device pixels, so that one to one stays sharp. */
  placement(): Rect {
    const { left, top, width, height } = this.#exact();
    const snap = (value: number) => Math.round(value * this.#box.ratio) / this.#box.ratio;
    return { left: snap(left), top: snap(top), width: snap(width), height: snap(height) };
  }

  /** Device pixels that a pixel of the frame covers. */
  magnification(): number {
    return this.#frame.width ? (this.#exact().width * this.#box.ratio) / this.#frame.width : 1;
  }

  /** The frame's pixel at (*x*, *y*) of the box; not `inside` beside the picture. */
  toFrame(x: number, y: number): { x: number; y: number; inside: boolean } {
    const { left, top, width, height } = this.placement();
    if (!width || !height) return { x: 0, y: 0, inside: false };
    const u = (x - left) / width;
    const v = (y - top) / height;
    return {
      x: u * this.#frame.width,
      y: v * this.#frame.height,
      inside: u >= 0 && u < 1 && v >= 0 && v < 1,
    };
  }

  #exact(): Rect {
    const { width, height } = this.#size();
    return {
      left: this.#box.width / 2 - this.#centre.x * width,
      top: this.#box.height / 2 - this.#centre.y * height,
      width,
      height,
    };
  }

  #size(): { width: number; height: number } {
    const { width, height } = this.#frame;
    if (!width || !height) return { width: 0, height: 0 };
    let across = this.#box.width / width;
    let down = this.#box.height / height;
    if (this.fit === "none" || this.fitsBox) across = down = 1 / this.#box.ratio;
    if (this.fit === "contain") across = down = Math.min(across, down);
    if (this.fit === "cover") across = down = Math.max(across, down);
    return { width: width * across * this.#zoom, height: height * down * this.#zoom };
  }

  #clamp(): void {
    const { width, height } = this.#size();
    this.#centre = {
      x: within(this.#centre.x, this.#box.width, width),
      y: within(this.#centre.y, this.#box.height, height),
    };
  }
}

/** *centre* such that a picture of *length* leaves nothing of the *box* uncovered that it could cover. */
function within(centre: number, box: number, length: number): number {
  if (!(length > box)) return 0.5;
  const half = box / length / 2;
  return Math.min(1 - half, Math.max(half, Number.isFinite(centre) ? centre : 0.5));
}
