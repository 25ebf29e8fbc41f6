// Which video this browser decodes is found out once per page: by the first player that starts. The others get its answer.

import { PROBES } from "../decode/probes";
import type { Command } from "./messages";

type Post = (command: Command) => void;

export class Probing {
  #found: string[] | null = null;
  /** Those that wait for the answer; the first of them finds out. */
  #players: Post[] = [];

  join(player: Post): void {
    if (this.#found) return player({ type: "offer", video: this.#found });
    if (this.#players.push(player) === 1) player({ type: "probe", probes: PROBES });
  }

  /** The first one has an answer. */
  found(video: string[]): void {
    this.#found = video;
    for (const player of this.#players.splice(0).slice(1)) player({ type: "offer", video });
  }

  /** *player* has ended; if it was finding out, the next one does. */
  leave(player: Post): void {
    const place = this.#players.indexOf(player);
    if (place < 0) return;
    this.#players.splice(place, 1);
    if (place === 0) this.#players[0]?.({ type: "probe", probes: PROBES });
  }
}

/** Notebooks load this module once for each widget: what is the page's own lies with the page. The number is that of the shape. */
const key = Symbol.for("pdum_rfb_widget.probing.1");
const page = globalThis as { [key]?: Probing };

export const probing = (page[key] ??= new Probing());
