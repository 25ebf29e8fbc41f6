// What the user does over the picture, as events of the renderview vocabulary (pygfx/renderview, src/spec.md).

import type { InputEvent, PointerFields, PointerInput, TouchPoint, WheelInput } from "../input_events";
import { type ButtonChange, buttonChanges, type KeyChange, Keyboard } from "./held";
import { inBox, Markers, type Point } from "./quad";
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

/** Keys with Control or Meta that stay the browser's own. */
const BROWSER_COMBINATIONS = new Set("rtwnlcvx+-=0");
/** Keys that keep their meaning: leaving, function keys of the browser, and what input methods need. */
const UNTOUCHED = new Set(["Tab", "F5", "F11", "F12", "Process", "Unidentified", "Dead"]);
const LINE = 100 / 3;
const PAGE = 800;
/** Characters in one event, and of one input or paste: typed text is sent in pieces, and neither without end. */
const PIECE = 200;
const LONGEST = 10_000;
/** Moves a second: each of ten fingers' describes all ten, and the hub closes a viewer that sends too much. */
const MOST_MOVES = 300;

/** Listens until the signal that it is given aborts. */
export class Input {
  #host: InputHost;
  #markers: Markers;
  #touches = new Map<number, TouchPoint>();
  /** The pointers that hold a button, as they were seen last. */
  #pressed = new Map<number, PointerFields>();
  /** Touches that are the page's unless they turn out to be taps. */
  #taps = new Map<number, PointerEvent>();
  #keyboard = new Keyboard(/^(Mac|iP)/.test(navigator.platform));
  #repeating = false;
  #isComposing = false;
  #moves = new Map<number, PointerInput>();
  #wheel: WheelInput | null = null;
  #scheduled = 0;
  #notBefore = 0;
  #panning: { id: number; at: Point | null } | null = null;
  #cameFrom: HTMLElement | null = null;

  constructor(host: InputHost, signal: AbortSignal) {
    this.#host = host;
    const { stage, keys } = host;
    this.#markers = new Markers(stage);
    const on = <E extends Event>(target: EventTarget, type: string, listener: (event: E) => void, passive = true) =>
      target.addEventListener(type, listener as EventListener, { signal, passive });

    on<PointerEvent>(stage, "pointerdown", (e) => this.#pointerDown(e));
    on<PointerEvent>(stage, "pointermove", (e) => this.#pointerMove(e));
    on<PointerEvent>(stage, "pointerup", (e) => this.#pointerUp(e));
    on<PointerEvent>(stage, "pointercancel", (e) => this.#pointerLost(e));
    // It comes to the document where the view was removed.
    on<PointerEvent>(document, "lostpointercapture", (e) => this.#pointerLost(e));
    on<PointerEvent>(stage, "pointerenter", (e) => this.#now({ type: "pointer_enter", ...this.#pointer(e) }));
    on<PointerEvent>(stage, "pointerleave", (e) => this.#pointerLeave(e));
    // Without its default a press neither selects text nor moves the focus, which the keys take instead.
    on<MouseEvent>(stage, "mousedown", (e) => e.preventDefault(), false);
    on<MouseEvent>(stage, "dblclick", (e) => this.#doubleClick(e));
    on<MouseEvent>(stage, "contextmenu", (e) => this.#noMenu(e), false);
    on<WheelEvent>(stage, "wheel", (e) => this.#turnWheel(e), false);

    on<KeyboardEvent>(keys, "keydown", (e) => this.#keyDown(e), false);
    on<KeyboardEvent>(keys, "keyup", (e) => this.#keyUp(e));
    on<globalThis.InputEvent>(keys, "input", (e) => this.#typed(e));
    on<ClipboardEvent>(keys, "paste", (e) => this.#paste(e), false);
    on(keys, "compositionstart", () => (this.#isComposing = true));
    on<CompositionEvent>(keys, "compositionend", (e) => this.#composed(e));
    on<FocusEvent>(keys, "focus", (e) => this.#focusIn(e));
    on(keys, "blur", () => this.#focusOut());
    on(window, "blur", () => this.release());
    on(window, "pagehide", () => this.release());
    on(document, "visibilitychange", () => document.hidden && this.release());
    signal.addEventListener("abort", () => this.release());
    this.showTouch();
  }

  /** The focus, or who gets touches, has changed: browsers are told before a touch begins whether they may scroll with it. */
  showTouch(): void {
    this.#host.stage.style.touchAction = this.#wantsTouches ? "none" : "auto";
  }

  /** Nothing stays down: the user is elsewhere, or nobody listens. */
  release(): void {
    this.#panning = null;
    this.#taps.clear();
    for (const [id, pointer] of this.#pressed) {
      this.#releasePointer(id);
      this.#now({ ...pointer, type: "pointer_leave", buttons: [], timestamp: Date.now() / 1000 });
    }
    this.#releaseKeys();
    this.#flush();
  }

  get #hasFocus(): boolean {
    return (this.#host.keys.getRootNode() as Document | ShadowRoot).activeElement === this.#host.keys;
  }

  #takeFocus(): void {
    // A click confirms what is being composed, as in a field that is seen; without the focus browsers do that.
    if (this.#isComposing) this.#host.keys.blur();
    this.#host.keys.focus({ preventScroll: true });
  }

  // Pointers ---------------------------------------------------------------------------------------------------------

  get #wantsTouches(): boolean {
    return this.#host.touch === "always" || (this.#host.touch === "focus" && this.#hasFocus);
  }

  #pointerDown(e: PointerEvent): void {
    if (e.pointerType !== "mouse" && !this.#wantsTouches) return void this.#taps.set(e.pointerId, e);
    this.#takeFocus();
    this.#host.stage.setPointerCapture(e.pointerId);
    if (e.altKey && e.button === 0 && this.#host.viewport.overflows) {
      this.#panning = { id: e.pointerId, at: this.#inStage(e) };
      return;
    }
    this.#updateButtons(e, e.buttons, e.button);
  }

  #pointerMove(e: PointerEvent): void {
    if (this.#taps.has(e.pointerId)) return;
    if (this.#panning?.id === e.pointerId) return this.#pan(e, this.#panning.at);
    // A second button of the mouse goes down in a move, by the rules of pointer events.
    const isDown = e.button >= 0 && buttons(e.buttons).includes(button(e.button));
    if (this.#updateButtons(e, e.buttons, isDown ? e.button : -1)) return;
    this.#moves.set(e.pointerId, { type: "pointer_move", ...this.#pointer(e) });
    this.#soon();
  }

  #pointerUp(e: PointerEvent): void {
    if (this.#panning?.id === e.pointerId) this.#panning = null;
    const tap = this.#taps.get(e.pointerId);
    if (tap) {
      this.#taps.delete(e.pointerId);
      this.#takeFocus();
      this.#updateButtons(tap, tap.buttons, tap.button);
    }
    this.#updateButtons(e, 0, -1);
  }

  #pointerLeave(e: PointerEvent): void {
    this.#taps.delete(e.pointerId);
    if (!this.#host.stage.hasPointerCapture(e.pointerId)) this.#releasePointer(e.pointerId);
    this.#now({ type: "pointer_leave", ...this.#pointer(e) });
  }

  /** Of its buttons nothing more will be heard. */
  #pointerLost({ pointerId }: PointerEvent): void {
    this.#taps.delete(pointerId);
    if (this.#panning?.id === pointerId) this.#panning = null;
    this.#releasePointer(pointerId);
  }

  #releasePointer(id: number): void {
    const pointer = this.#pressed.get(id);
    if (!pointer) return;
    const last = { ...pointer, modifiers: [], timestamp: Date.now() / 1000 };
    this.#emitChanges(id, last, buttonChanges(pointer.buttons, [], 0));
  }

  /** Emit what *e* changes of the pointer's buttons, which *mask* says, and *down*, -1 for none; false where that is nothing. */
  #updateButtons(e: PointerEvent, mask: number, down: number): boolean {
    const held = this.#pressed.get(e.pointerId)?.buttons ?? [];
    const changes = buttonChanges(held, buttons(mask), button(down));
    if (!held.length && !changes.length) return false;
    this.#touch(e);
    const pointer = this.#pointer(e);
    if (held.length) this.#pressed.set(e.pointerId, pointer);
    this.#emitChanges(e.pointerId, pointer, changes);
    return !!changes.length;
  }

  #emitChanges(id: number, pointer: PointerFields, changes: ButtonChange[]): void {
    for (const change of changes) {
      this.#now({ ...pointer, ...change });
      if (change.buttons.length) {
        this.#pressed.set(id, { ...pointer, buttons: change.buttons });
      } else {
        this.#pressed.delete(id);
        this.#touches.delete(id);
      }
    }
  }

  #pan(e: PointerEvent, from: Point | null): void {
    const at = this.#inStage(e);
    if (at && from) this.#host.viewport.panBy(at.x - from.x, at.y - from.y);
    this.#panning = { id: e.pointerId, at };
    this.#host.moved();
  }

  #noMenu(e: MouseEvent): void {
    e.preventDefault();
    e.stopPropagation(); // notebooks open menus of their own all the same
  }

  #doubleClick(e: MouseEvent): void {
    this.#now({ type: "double_click", ...this.#place(e, this.#held), button: button(e.button), ntouches: 0, touches: {} });
  }

  #turnWheel(e: WheelEvent): void {
    const zooms = this.#host.pinch === "view" && (e.ctrlKey || e.metaKey);
    // Without the focus all else is the page's.
    if (!zooms && !this.#hasFocus) return;
    e.preventDefault();
    const unit = e.deltaMode === 1 ? LINE : e.deltaMode === 2 ? PAGE : 1;
    if (zooms) {
      const at = this.#inStage(e);
      if (at) this.#host.viewport.zoomBy(Math.exp((-e.deltaY * unit) / 300), at.x, at.y);
      this.#host.moved();
      return;
    }
    const before = this.#wheel ?? { dx: 0, dy: 0 };
    const dx = before.dx + e.deltaX * unit;
    const dy = before.dy + e.deltaY * unit;
    this.#wheel = { type: "wheel", ...this.#place(e, this.#held), dx, dy };
    this.#soon();
  }

  #touch(e: PointerEvent): void {
    if (e.pointerType !== "touch") return;
    const { x, y } = this.#at(e);
    this.#touches.set(e.pointerId, { x, y, pressure: round(e.pressure) });
  }

  #pointer(e: PointerEvent): PointerFields {
    // A mouse has none of it.
    const force = e.pointerType === "mouse" ? {} : { pressure: round(e.pressure), tilt_x: e.tiltX, tilt_y: e.tiltY };
    return {
      ...this.#place(e, this.#pressed.get(e.pointerId)?.buttons ?? []),
      button: 0,
      ntouches: this.#touches.size,
      touches: Object.fromEntries(this.#touches),
      pointer_id: e.pointerId,
      pointer_type: e.pointerType,
      ...force,
    };
  }

  /** What any pointer holds. */
  get #held(): number[] {
    return [...this.#pressed.values()].flatMap((pointer) => pointer.buttons);
  }

  /** Of the buttons those that went down here, and have not come up as far as was sent. */
  #place(e: MouseEvent, held: number[]) {
    return {
      ...this.#at(e),
      pixel_ratio: this.#host.pixelRatio(),
      buttons: buttons(e.buttons).filter((one) => held.includes(one)),
      modifiers: this.#keyboard.modifiers(e),
      timestamp: seconds(e),
    };
  }

  /** The frame's pixel. */
  #at(e: MouseEvent): Point & { inside: boolean } {
    const point = this.#inStage(e);
    const { x, y, inside } = point ? this.#host.viewport.toFrame(point.x, point.y) : { x: 0, y: 0, inside: false };
    return { x: round(x), y: round(y), inside };
  }

  #inStage({ clientX, clientY }: MouseEvent): Point | null {
    const { width, height } = this.#host.viewport.box;
    return inBox(this.#markers.corners, width, height, { x: clientX, y: clientY });
  }

  // Keys -------------------------------------------------------------------------------------------------------------

  #keyDown(e: KeyboardEvent): void {
    e.stopPropagation();
    this.#bringKeysIntoView();
    if (e.isComposing) return;
    this.#repeating = e.repeat;
    if (!e.repeat) this.#emitKeys(this.#keyboard.press(e, e.timeStamp), e);
    if (e.key === "Escape") this.#restoreFocus();
    else if (isOurs(e)) e.preventDefault();
  }

  #keyUp(e: KeyboardEvent): void {
    e.stopPropagation();
    this.#emitKeys(this.#keyboard.lift(e), e);
  }

  #emitKeys(changes: KeyChange[], e: KeyboardEvent): void {
    const [modifiers, timestamp] = [this.#keyboard.modifiers(e), seconds(e)];
    for (const change of changes) this.#now({ ...change, modifiers, timestamp });
  }

  #typed(e: globalThis.InputEvent): void {
    e.stopPropagation();
    // After the end of a composition Firefox tells its text once more.
    const again = !e.isComposing && e.inputType === "insertCompositionText";
    if (e.data && !again) this.#char(e.data, e.inputType, e.isComposing);
    if (!e.isComposing) this.#host.keys.value = "";
  }

  #composed(e: CompositionEvent): void {
    this.#isComposing = false;
    if (e.data) this.#char(e.data, "insertText", false);
    this.#host.keys.value = "";
  }

  #paste(e: ClipboardEvent): void {
    e.stopPropagation();
    if (!this.#host.pastes()) return;
    e.preventDefault();
    const text = e.clipboardData?.getData("text/plain") ?? "";
    // Without half a character at its end.
    this.#now({ type: "paste", text: text.slice(0, LONGEST).replace(/[\uD800-\uDBFF]$/, ""), timestamp: seconds(e) });
  }

  #char(data: string, inputType: string, isComposing: boolean): void {
    const event = { input_type: inputType, is_composing: isComposing, repeat: this.#repeating };
    const characters = [...data].slice(0, LONGEST);
    for (let i = 0; i < characters.length; i += PIECE) {
      const piece = characters.slice(i, i + PIECE).join("");
      this.#now({ type: "char", data: piece, ...event, timestamp: Date.now() / 1000 });
    }
  }

  #focusIn(e: FocusEvent): void {
    const from = e.relatedTarget;
    if (from instanceof HTMLElement && !from.closest(".rfb-root")) this.#cameFrom = from;
    this.#bringKeysIntoView();
    this.showTouch();
    this.#now({ type: "focus_in", timestamp: seconds(e) });
  }

  #focusOut(): void {
    this.#releaseKeys();
    this.showTouch();
    this.#now({ type: "focus_out", timestamp: Date.now() / 1000 });
  }

  #restoreFocus(): void {
    this.#releaseKeys();
    this.#host.keys.blur();
    // In a notebook the cell that was active before, so that its shortcuts work again.
    const before = this.#cameFrom?.isConnected ? this.#cameFrom : this.#host.stage.closest<HTMLElement>("[tabindex]");
    before?.focus({ preventScroll: true });
  }

  /** A character typed where it can't be seen makes browsers scroll there. */
  #bringKeysIntoView(): void {
    const { width, height } = this.#host.viewport.box;
    const at = inBox(this.#markers.corners, width, height, visibleMiddle(this.#host.stage));
    if (at) Object.assign(this.#host.keys.style, { left: `${at.x}px`, top: `${at.y}px` });
  }

  #releaseKeys(): void {
    for (const change of this.#keyboard.release()) this.#now({ ...change, modifiers: [], timestamp: Date.now() / 1000 });
  }

  // Throttling -------------------------------------------------------------------------------------------------------

  #now(event: InputEvent): void {
    this.#flush();
    this.#host.emit(event);
  }

  /** Moves and wheels: the newest, respectively their sum, once a frame of the screen. */
  #soon(): void {
    this.#scheduled ||= requestAnimationFrame((now) => {
      this.#scheduled = 0;
      if (now < this.#notBefore) return this.#soon();
      this.#notBefore = now + (1000 * this.#moves.size) / MOST_MOVES;
      this.#flush();
    });
  }

  #flush(): void {
    cancelAnimationFrame(this.#scheduled);
    this.#scheduled = 0;
    const pending = [...this.#moves.values(), ...(this.#wheel ? [this.#wheel] : [])];
    this.#moves.clear();
    this.#wheel = null;
    for (const event of pending) this.#host.emit(event);
  }
}

/** renderview's number of the DOM's `MouseEvent.button`. */
export function button(dom: number): number {
  return [1, 3, 2, 4, 5, 6][dom] ?? 0;
}

/** renderview's list of the DOM's `MouseEvent.buttons`. */
export function buttons(dom: number): number[] {
  return [1, 2, 3, 4, 5, 6].filter((number) => dom & (1 << (number - 1)));
}

/** Whether the key's default would act on the page: scroll it, or call up the browser's own doings. */
function isOurs(e: KeyboardEvent): boolean {
  if (UNTOUCHED.has(e.key) || e.getModifierState("AltGraph")) return false;
  if (e.ctrlKey || e.metaKey) return !BROWSER_COMBINATIONS.has(e.key.toLowerCase());
  return e.key.length > 1; // a character goes on into the text field and comes back as `char`
}

/** The middle of what can be seen of *element*, in the page. */
function visibleMiddle(element: HTMLElement): Point {
  let { left, top, right, bottom } = element.getBoundingClientRect();
  const cut = (by: { left: number; top: number; right: number; bottom: number }) => {
    left = Math.max(left, by.left);
    top = Math.max(top, by.top);
    right = Math.min(right, by.right);
    bottom = Math.min(bottom, by.bottom);
  };
  cut({ left: 0, top: 0, right: innerWidth, bottom: innerHeight });
  for (let above = parentOf(element); above; above = parentOf(above)) {
    if (getComputedStyle(above).overflow !== "visible") cut(above.getBoundingClientRect());
  }
  return { x: (left + right) / 2, y: (top + bottom) / 2 };
}

function parentOf(element: Element): Element | null {
  return element.parentElement ?? (element.getRootNode() as Partial<ShadowRoot>).host ?? null;
}

function seconds(e: Event): number {
  return round((performance.timeOrigin + e.timeStamp) / 1000);
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
