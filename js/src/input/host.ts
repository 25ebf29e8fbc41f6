// What input is taken from, and where it goes.

import type { InputEvent } from "../input_events";
import type { Keyboard } from "./held";
import type { Markers } from "./quad";
import type { EventQueue } from "./queue";
import type { Viewport } from "./viewport";

/** When touches and pens act in the picture, instead of scrolling the page: while it has the focus, always, or never. */
export type Touch = "focus" | "always" | "never";
/** Who gets the wheel with Control, which a trackpad's pinch is too. */
export type Pinch = "view" | "application";

export interface InputHost {
  /** Where pointers act. */
  stage: HTMLElement;
  /** Holds the keyboard's focus: a text field, so that notebooks keep their shortcuts and input methods compose. */
  keys: HTMLTextAreaElement;
  viewport: Viewport;
  touch: Touch;
  pinch: Pinch;
  pixelRatio(): number;
  /** A paste is sent as it is, and not as characters. */
  pastes(): boolean;
  emit(event: InputEvent): void;
  /** The view itself was zoomed or panned. */
  moved(): void;
}

/** What pointers and keys share. */
export interface InputContext {
  host: InputHost;
  keyboard: Keyboard;
  queue: EventQueue;
  markers: Markers;
  /** Nothing is listened to once it aborts. */
  signal: AbortSignal;
}
