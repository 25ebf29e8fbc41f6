// The order in which the views of a thread connect. Chromium holds WebSockets back, the longer the more of its page's are being
// opened: the twelfth for a tenth of a second, those from the seventeenth on for seconds. So they come one after the other,
// those that can be seen first.

/** An attempt that takes longer waits for something else than its turn. */
const LONGEST_MS = 250;

interface Waiting {
  urgent(): boolean;
  go(): void;
}

export class Turns {
  #waiting: Waiting[] = [];
  #current: Waiting | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Call *go* when it is its turn, perhaps at once; those that are *urgent* by then come first. Returns a function that ends the turn, or the wait. */
  take(urgent: () => boolean, go: () => void): () => void {
    const one = { urgent, go };
    this.#waiting.push(one);
    this.#next();
    return () => this.#leave(one);
  }

  #next(): void {
    if (this.#current || !this.#waiting.length) return;
    const place = Math.max(0, this.#waiting.findIndex((one) => one.urgent()));
    const [one] = this.#waiting.splice(place, 1);
    this.#current = one!;
    this.#timer = setTimeout(() => this.#leave(one!), LONGEST_MS);
    one!.go();
  }

  #leave(one: Waiting): void {
    this.#waiting = this.#waiting.filter((other) => other !== one);
    if (one !== this.#current) return;
    clearTimeout(this.#timer);
    this.#current = null;
    this.#next();
  }
}

/** Those of this thread. */
export const turns = new Turns();
