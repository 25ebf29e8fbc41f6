// How large the view is shown.

/** Device pixels by which a box may measure less than it has: lengths of the page come in 64ths, ratios as floats. */
const MEASURED_SHORT = 0.1;

export interface Size {
  /** In CSS pixels, whatever the page does to show it larger or smaller; 0 while it isn't laid out. */
  width: number;
  height: number;
  /** In whole device pixels. */
  pwidth: number;
  pheight: number;
  ratio: number;
}

export function sizeOf(stage: HTMLElement): Size {
  // Not `clientWidth`, which is rounded: half a pixel of the page may be one of the screen.
  const style = getComputedStyle(stage);
  const [width, height] = [Number.parseFloat(style.width) || 0, Number.parseFloat(style.height) || 0];
  const ratio = devicePixelRatio;
  return { width, height, pwidth: wholePixels(width * ratio), pheight: wholePixels(height * ratio), ratio };
}

/** How many device pixels a length surely has: a picture of one more would be cut off. */
function wholePixels(length: number): number {
  return Math.floor(length + MEASURED_SHORT);
}
