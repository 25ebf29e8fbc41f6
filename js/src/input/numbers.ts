// Numbers as events have them.

/** When *e* happened, in seconds since 1970. */
export function secondsOf(e: Event): number {
  return round((performance.timeOrigin + e.timeStamp) / 1000);
}

/** To three digits: more would only be bytes. */
export function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/** renderview's number of the DOM's `MouseEvent.button`. */
export function button(dom: number): number {
  return [1, 3, 2, 4, 5, 6][dom] ?? 0;
}

/** renderview's list of the DOM's `MouseEvent.buttons`. */
export function buttons(dom: number): number[] {
  return [1, 2, 3, 4, 5, 6].filter((number) => dom & (1 << (number - 1)));
}
