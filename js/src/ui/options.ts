// What a page may ask of a view.

import type { Pinch, Touch } from "../input/events";
import type { Fit } from "../input/viewport";
import type { Target } from "../net/candidates";
import type { State } from "../net/connection";
import type { Try } from "../net/diagnosis";
import type { InputEvent } from "../protocol";
import type { ViewStats } from "../worker/messages";
import type { Height } from "./box";

export interface ViewOptions {
  /** The stream's WebSocket address; where it isn't known, `target` says how to find it. */
  url?: string;
  token?: string;
  target?: Promise<Target>;
  fit?: Fit;
  /** CSS color beside the picture; empty is the theme's. */
  background?: string;
  /** Of the box, in CSS pixels, or `auto`: that of the picture at the box's width. Without it the box fills its element. */
  height?: Height;
  /** Of the frames that will come, in CSS pixels; the box has it until one is there. */
  shape?: [number, number] | [];
  /** The picture's name for those who can't see it. */
  label?: string;
  showToolbar?: boolean;
  showStats?: boolean;
  /** When touches and pens act in the picture, instead of scrolling the page; "focus" is while it has the focus. */
  touch?: Touch;
  /** Who gets Control and wheel, and a trackpad's pinch: the view, which zooms, or the application, once it has the focus. */
  pinch?: Pinch;
  /** Open the on-screen keyboard with the focus. */
  onScreenKeyboard?: boolean;
  /** Decode and draw on the page's own thread, without a worker. */
  mainThreadPresent?: boolean;
  /** Take no video. */
  imageOnly?: boolean;
  onState?: (state: State, message: string) => void;
  /** What was tried to reach the hub, oldest first. */
  onTried?: (tries: Try[]) => void;
  onFigures?: (stats: ViewStats) => void;
  /** There is a picture, of this view or of this connection, for the first time. */
  onPicture?: () => void;
  /** Each input event that goes to the hub. */
  onEvent?: (event: InputEvent) => void;
  /** The user dragged the handle. */
  onHeight?: (height: number) => void;
}
