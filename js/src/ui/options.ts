// What a page may ask of a view.

import type { Pinch, Touch } from "../input/host";
import type { Fit } from "../input/viewport";
import type { InputEvent } from "../input_events";
import type { Target } from "../net/candidates";
import type { State } from "../net/connection";
import type { Try } from "../net/diagnosis";
import type { ViewStats } from "../worker/messages";
import type { Height } from "./box";

export interface ViewOptions {
  /** The stream's WebSocket address, as `display.ws_url`. */
  url?: string;
  /** The token that opens it; empty where the hub asks for none. */
  token?: string;
  /** @internal How our own widget says where the stream is. */
  target?: Promise<Target>;
  /** "contain" by default. */
  fit?: Fit;
  /** CSS color beside the picture; empty, the default, is the theme's. */
  background?: string;
  /** Of the box, in CSS pixels, or "auto": that of the picture at the box's width. Without it the box fills its element. */
  height?: Height;
  /** Width and height of the frames to come, in CSS pixels: the box has this shape until the first one is there. */
  shape?: [number, number] | [];
  /** The picture's name for screen readers; "Remote picture" by default. */
  label?: string;
  /** True by default. */
  showToolbar?: boolean;
  /** Show the panel of statistics; false by default. */
  showStats?: boolean;
  /** When touches and pens act in the picture, instead of scrolling the page; "focus", the default, is while it has the focus. */
  touch?: Touch;
  /** Who gets Control and wheel, and a trackpad's pinch: the view (the default), which zooms, or the application, once it has the focus. */
  pinch?: Pinch;
  /** Open the on-screen keyboard with the focus; false by default. */
  onScreenKeyboard?: boolean;
  /** Decode and draw on the page's own thread, without a worker; false by default. */
  mainThreadPresent?: boolean;
  /** Take no video; false by default. */
  imageOnly?: boolean;
  /** The connection's state has changed, or what *message* says to the user, which may be empty. */
  onState?: (state: State, message: string) => void;
  /** All attempts to reach the hub, oldest first, after each change. */
  onTried?: (tries: Try[]) => void;
  /** Statistics, once a second while pictures come. */
  onFigures?: (stats: ViewStats) => void;
  /** The first picture of each connection is shown. */
  onPicture?: () => void;
  /** Each input event that goes to the hub. */
  onEvent?: (event: InputEvent) => void;
  /** The user changed the height with the handle; in CSS pixels. */
  onHeight?: (height: number) => void;
}
