// What all views of a page share. Notebooks load this bundle once for each widget, so it lies with the page.

import type { CandidateName } from "./candidates";

export interface Secrets {
  token: string;
  hubKey: string;
}

interface Store {
  /** By hub: they are blanked in the widgets' models, which notebooks save. */
  secrets: Map<string, Secrets>;
  /** The candidate that worked last; tried first by the next view. */
  candidate: CandidateName | "";
}

/** The number is that of the shape. */
const key = Symbol.for("pdum_rfb_widget.store.2");
const page = globalThis as { [key]?: Store };

export const store = (page[key] ??= { secrets: new Map(), candidate: "" });
