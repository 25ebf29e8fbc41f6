// The size that the view has in its page: what its parent gives, or else that of a sizer, which has the picture's shape.

import { element } from "./element";

/** CSS pixels; `auto` keeps the picture's shape, and without a height the box fills its element. */
export type Height = number | "auto" | undefined;

const MIN_HEIGHT = 48;
/** Of a sizer, which is as wide as the toolbar. */
const MIN_WIDTH = 240;
/** While no picture is known, and where the picture follows the box, which must not follow the picture. */
const PLAIN = { width: 640, height: 480 };

/** The box never depends on itself: the sizer changes with the picture alone, and the picture's canvas is not in flow. */
export class Box {
  readonly sizer = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  readonly handle = element("div", "rfb-handle");
  #root: HTMLElement;
  #onHeight: ((height: number) => void) | undefined;
  #height: Height;
  #picture = PLAIN;
  #fixed = true;
  #oneToOne = false;

  constructor(root: HTMLElement, height: Height, onHeight?: (height: number) => void) {
    this.#root = root;
    this.#onHeight = onHeight;
    this.sizer.classList.add("rfb-sizer");
    this.sizer.setAttribute("aria-hidden", "true");
    // A frame may be as high as what it holds, whose height must then not follow the frame's.
    if (window.parent !== window) root.style.setProperty("--rfb-most", `${0.85 * screen.availHeight}px`);
    this.#makeHandle(height);
    this.setHeight(height);
  }

  setHeight(height: Height): void {
    this.#height = height;
    this.#root.style.height = typeof height === "number" ? `${height}px` : "";
    this.#apply();
  }

  /** In CSS pixels. With *fixed* the picture is made for the box, which then takes nothing from it. */
  setPicture(width: number, height: number, fixed: boolean): void {
    this.#picture = fixed ? PLAIN : { width, height };
    this.#fixed = fixed;
    this.#apply();
  }

  /** The picture is not made larger or smaller for the box. */
  setOneToOne(oneToOne: boolean): void {
    this.#oneToOne = oneToOne;
    this.#apply();
  }

  /** The box may have another height in its page. */
  measured(): void {
    const height = this.#root.offsetHeight;
    this.handle.setAttribute("aria-valuenow", String(height));
    this.handle.setAttribute("aria-valuetext", `${height} pixels`);
    // There is none, but without one it is 100.
    this.handle.setAttribute("aria-valuemax", String(Math.max(height, screen.availHeight)));
  }

  #apply(): void {
    const { width, height } = this.#picture;
    const least = this.#oneToOne ? 1 : Math.max(1, MIN_WIDTH / width);
    const scale = typeof this.#height === "number" ? this.#height / height : least;
    this.sizer.setAttribute("width", String(width * scale));
    this.sizer.setAttribute("height", String(height * scale));
    this.sizer.style.aspectRatio = `${width} / ${height}`;
    const rigid = this.#fixed || this.#oneToOne;
    this.sizer.style.width = rigid ? `${width * scale}px` : "";
    this.sizer.style.height = rigid ? `${height * scale}px` : "";
    this.#root.classList.toggle("rfb-shaped", this.#height === "auto" && !this.#fixed);
  }

  #makeHandle(height: Height): void {
    const { handle } = this;
    handle.hidden = !height;
    handle.tabIndex = 0;
    handle.setAttribute("role", "separator");
    handle.setAttribute("aria-orientation", "horizontal");
    handle.setAttribute("aria-label", "Height of the picture; arrow keys change it");
    handle.setAttribute("aria-valuemin", String(MIN_HEIGHT));
    const set = (wanted: number) => {
      this.setHeight(Math.max(MIN_HEIGHT, Math.round(wanted)));
      this.measured();
    };
    const report = () => this.#onHeight?.(this.#root.offsetHeight);
    handle.onpointerdown = (down) => {
      const start = this.#root.offsetHeight - down.clientY;
      handle.setPointerCapture(down.pointerId);
      handle.onpointermove = (move) => set(start + move.clientY);
    };
    handle.onpointerup = handle.onpointercancel = () => {
      handle.onpointermove = null;
      report();
    };
    handle.onkeydown = (e) => {
      const step = { ArrowDown: 16, ArrowUp: -16 }[e.key];
      if (!step) return;
      e.preventDefault();
      set(this.#root.offsetHeight + step);
      report();
    };
  }
}
