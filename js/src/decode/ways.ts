// The ways in which large lossy pictures get onto a canvas, and which of them is the quickest here: that depends on the browser, on
// the processor, and on whether it rasters in software or in hardware. The first pictures go each of them in turn, and are timed.

/** Decoded and the pixels copied into ours; decoded and drawn; left to `createImageBitmap` and drawn. */
export type Way = "copy" | "draw" | "bitmap";

/**
 * Chromium with software raster takes half as long for the first as for the others, on two cores and on one beside a busy loop;
 * Firefox draws two to three times as fast as it copies.
 */
const WAYS: Way[] = ["copy", "draw", "bitmap"];
/** Pictures of each: all are over in the first half second of a stream of 60. */
const TRIALS = 8;
/** A later way is taken where it takes less than this share of an earlier one's time: near that they differ by chance. */
const CLEARLY = 0.8;

export class Ways {
  #best: Way | null = null;
  #begun = 0;
  #times: Record<Way, number[]> = { copy: [], draw: [], bitmap: [] };

  /** While it is true, each picture is to be timed. */
  get measuring(): boolean {
    return this.#best === null;
  }

  /** The way for the next picture. */
  next(): Way {
    return this.#best ?? WAYS[this.#begun++ % WAYS.length]!;
  }

  /** A picture has taken this long for each of its pixels; infinitely long if it failed. */
  took(way: Way, time: number): void {
    this.#times[way].push(time);
    if (WAYS.every((one) => this.#times[one].length >= TRIALS)) this.#best ??= this.#quickest();
  }

  /** By the best time of each: whatever else the machine does only adds to a time. */
  #quickest(): Way {
    const best = (way: Way) => Math.min(...this.#times[way]);
    return WAYS.reduce((one, other) => (best(other) < CLEARLY * best(one) ? other : one));
  }
}
