// Events on their way out: moves and wheel turns are joined, once a frame of the screen, and nothing overtakes them.

import type { InputEvent, PointerInput, WheelInput } from "../input_events";

/** Moves a second: each of ten fingers' describes all ten, and the hub closes a viewer that sends too much. */
const MOST_MOVES = 300;

export class EventQueue {
  #emit: (event: InputEvent) => void;
  #moves = new Map<number, PointerInput>();
  #wheel: WheelInput | null = null;
  #scheduled = 0;
  #notBefore = 0;

  constructor(emit: (event: InputEvent) => void) {
    this.#emit = emit;
  }

  /** Emit *event* after all that waits. */
  now(event: InputEvent): void {
    this.flush();
    this.#emit(event);
  }

  /** Of each pointer the newest move counts. */
  move(id: number, event: PointerInput): void {
    this.#moves.set(id, event);
    this.#schedule();
  }

  /** Turns add up. */
  turn(event: WheelInput): void {
    const { dx, dy } = this.#wheel ?? { dx: 0, dy: 0 };
    this.#wheel = { ...event, dx: dx + event.dx, dy: dy + event.dy };
    this.#schedule();
  }

  flush(): void {
    cancelAnimationFrame(this.#scheduled);
    this.#scheduled = 0;
    const pending = [...this.#moves.values(), ...(this.#wheel ? [this.#wheel] : [])];
    this.#moves.clear();
    this.#wheel = null;
    for (const event of pending) this.#emit(event);
  }

  #schedule(): void {
    this.#scheduled ||= requestAnimationFrame((now) => {
      this.#scheduled = 0;
      if (now < this.#notBefore) return this.#schedule();
      this.#notBefore = now + (1000 * this.#moves.size) / MOST_MOVES;
      this.flush();
    });
  }
}
