// Input events as they go to the hub and, by `onEvent`, to the page: the renderview vocabulary (pygfx/renderview, src/spec.md).

export type Modifier = "Shift" | "Control" | "Alt" | "Meta";

interface Timed {
  /** Seconds since 1970. */
  timestamp: number;
}

interface Placed extends Timed {
  /** In pixels of the frame, from its upper left corner, as `y`. */
  x: number;
  y: number;
  /** False beside the picture. */
  inside: boolean;
  /** The frame's pixels that make a logical one, as the publisher said. */
  pixel_ratio: number;
  /** Those that are down: 1 is the left one, 2 the right, 3 the middle, 6 a pen's eraser. */
  buttons: number[];
  modifiers: Modifier[];
}

/** One finger on the picture. */
export interface TouchPoint {
  x: number;
  y: number;
  /** 0 to 1. */
  pressure: number;
}

/** Fields of all that a pointer does. */
export interface PointerFields extends Placed {
  /** The one that changed, 0 for none; numbered as `buttons`. */
  button: number;
  ntouches: number;
  /** By the id of each finger. */
  touches: Record<number, TouchPoint>;
  pointer_id?: number;
  /** `mouse`, `touch` or `pen`. */
  pointer_type?: string;
  /** 0 to 1; of pens and fingers, as the tilt. */
  pressure?: number;
  /** Degrees from upright, as `tilt_y`. */
  tilt_x?: number;
  tilt_y?: number;
}

export interface PointerInput extends PointerFields {
  type: "pointer_down" | "pointer_up" | "pointer_move" | "pointer_enter" | "pointer_leave" | "double_click";
}

export interface WheelInput extends Placed {
  type: "wheel";
  /** In CSS pixels, as `dy`; right and down are positive. */
  dx: number;
  dy: number;
}

export interface KeyInput extends Timed {
  type: "key_down" | "key_up";
  /** The key's meaning, as browsers name it: `a`, `Enter`, `ArrowUp`. */
  key: string;
  /** The key's place on the keyboard: `KeyA`. */
  code: string;
  modifiers: Modifier[];
}

/** Typed text. */
export interface CharInput extends Timed {
  type: "char";
  data: string;
  input_type: string;
  is_composing: boolean;
  repeat: boolean;
}

/** Pasted text, where the stream has `clipboard=True`. */
export interface PasteInput extends Timed {
  type: "paste";
  text: string;
}

/** The picture's box has another size. */
export interface ResizeInput extends Timed {
  type: "resize";
  /** In CSS pixels, as `height`. */
  width: number;
  height: number;
  /** In device pixels, as `pheight`. */
  pwidth: number;
  pheight: number;
  /** Device pixels that make a CSS pixel. */
  ratio: number;
}

/** What the view itself does: it is seen or not, has the keyboard or not, ends. */
export interface ViewInput extends Timed {
  type: "show" | "hide" | "focus_in" | "focus_out" | "close";
}

/** An input event; its `type` says which. */
export type InputEvent = PointerInput | WheelInput | KeyInput | CharInput | PasteInput | ResizeInput | ViewInput;
