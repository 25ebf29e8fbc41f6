// What comes is decoded at once, side by side, and shown in the order in which it came: never an older frame after a newer.

import type { Decoded } from "./pixels";

export class Queue {
  #last: Promise<void> = Promise.resolve();
  #round = {};
  #waiting = 0;

  /** Payloads that are not shown yet. */
  get waiting(): number {
    return this.#waiting;
  }

  /** *show* is called in its turn, or *failed*; neither after `forget`. */
  add(decoding: Promise<Decoded>, show: (picture: Decoded) => void, failed: (error: unknown) => void): void {
    const round = this.#round;
    this.#waiting++;
    decoding.catch(() => {}); // awaited in its turn, below
    this.#last = this.#last.then(async () => {
      let picture: Decoded | null = null;
      try {
        picture = await decoding;
        if (round !== this.#round) return;
        this.#waiting--;
        show(picture);
      } catch (error) {
        if (round !== this.#round) return;
        if (!picture) this.#waiting--;
        failed(error);
      } finally {
        picture?.close();
      }
    });
  }

  /** Nothing of what was added is shown any more. */
  forget(): void {
    this.#round = {};
    this.#last = Promise.resolve();
    this.#waiting = 0;
  }
}
