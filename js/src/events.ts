// What the user does over the picture, as events of the renderview vocabulary (pygfx/renderview, src/spec.md).

import type { InputEvent } from "./protocol";
import type { Viewport } from "./viewport";

type Modifiers = { modifiers: string[] };

export interface InputHost {
  /** Where pointers act. */
  stage: HTMLElement;
  /** Holds the keyboard's focus: a text field, so that notebooks keep their shortcuts and input methods compose. */
  keys: HTMLTextAreaElement;
  viewport: Viewport;
  pixelRatio(): number;
  /** A paste is told as it is, and not as characters. */
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
/** Characters in one event, and of one input or paste: typed text is told in pieces, and neither without end. */
const PIECE = 200;
const LONGEST = 10_000;

/** Listens until the signal that it is given aborts. */
export class Input {
  #host: InputHost;
  #touches = new Map<number, { x: number; y: number; pressure: number }>();
  #pressed = new Map<number, PointerEvent>();
  #held = new Map<string, string>();
  #repeating = false;
  #moves = new Map<number, InputEvent>();
  #wheel: (InputEvent & { dx: number; dy: number }) | null = null;
  #scheduled = 0;
  #panning: { id: number; x: number; y: number } | null = null;
  #cameFrom: HTMLElement | null = null;

  constructor(host: InputHost, signal: AbortSignal) {
    this.#host = host;
    const { stage, keys } = host;
    const on = <E extends Event>(target: EventTarget, type: string, listener: (event: E) => void, passive = true) =>
      target.addEventListener(type, listener as EventListener, { signal, passive });

    on<PointerEvent>(stage, "pointerdown", (e) => this.#pointerDown(e));
    on<PointerEvent>(stage, "pointermove", (e) => this.#pointerMove(e));
    on<PointerEvent>(stage, "pointerup", (e) => this.#pointerUp(e));
    on<PointerEvent>(stage, "pointercancel", (e) => this.#pointerUp(e));
    on<PointerEvent>(stage, "pointerenter", (e) => this.#now({ type: "pointer_enter", ...this.#pointer(e) }));
    on<PointerEvent>(stage, "pointerleave", (e) => this.#now({ type: "pointer_leave", ...this.#pointer(e) }));
    // Without its default a press neither selects text nor moves the focus, which the keys take instead.
    on<MouseEvent>(stage, "mousedown", (e) => e.preventDefault(), false);
    on<MouseEvent>(stage, "dblclick", (e) => this.#doubleClick(e));
    on<MouseEvent>(stage, "contextmenu", (e) => this.#noMenu(e), false);
    on<WheelEvent>(stage, "wheel", (e) => this.#turnWheel(e), false);

    on<KeyboardEvent>(keys, "keydown", (e) => this.#keyDown(e), false);
    on<KeyboardEvent>(keys, "keyup", (e) => this.#keyUp(e));
    on<globalThis.InputEvent>(keys, "input", (e) => this.#typed(e));
    on<ClipboardEvent>(keys, "paste", (e) => this.#paste(e), false);
    on<CompositionEvent>(keys, "compositionend", (e) => this.#composed(e));
    on<FocusEvent>(keys, "focus", (e) => this.#focusIn(e));
    on(keys, "blur", () => this.#focusOut());
    on(window, "blur", () => this.#releaseAll());
    signal.addEventListener("abort", () => cancelAnimationFrame(this.#scheduled));
  }

  get #hasFocus(): boolean {
    return (this.#host.keys.getRootNode() as Document | ShadowRoot).activeElement === this.#host.keys;
  }

  // Pointers ---------------------------------------------------------------------------------------------------------

  #pointerDown(e: PointerEvent): void {
    this.#host.keys.focus({ preventScroll: true });
    this.#host.stage.setPointerCapture(e.pointerId);
    if (e.altKey && e.button === 0 && this.#host.viewport.overflows) {
      this.#panning = { id: e.pointerId, x: e.clientX, y: e.clientY };
      return;
    }
    this.#pressed.set(e.pointerId, e);
    this.#touch(e);
    this.#now({ type: "pointer_down", ...this.#pointer(e), button: button(e.button) });
  }

  #pointerMove(e: PointerEvent): void {
    if (this.#panning?.id === e.pointerId) {
      this.#host.viewport.panBy(e.clientX - this.#panning.x, e.clientY - this.#panning.y);
      this.#panning = { id: e.pointerId, x: e.clientX, y: e.clientY };
      this.#host.moved();
      return;
    }
    // A second button of the mouse goes down or up in a move, by the rules of pointer events.
    if (e.button >= 0 && this.#pressed.has(e.pointerId)) {
      this.#pressed.set(e.pointerId, e);
      const isDown = (e.buttons & (1 << bit(e.button))) !== 0;
      return this.#now({ type: isDown ? "pointer_down" : "pointer_up", ...this.#pointer(e), button: button(e.button) });
    }
    if (this.#pressed.has(e.pointerId)) this.#touch(e);
    this.#moves.set(e.pointerId, { type: "pointer_move", ...this.#pointer(e), button: 0 });
    this.#soon();
  }

  #pointerUp(e: PointerEvent): void {
    if (this.#panning?.id === e.pointerId) this.#panning = null;
    if (!this.#pressed.delete(e.pointerId)) return;
    this.#now({ type: "pointer_up", ...this.#pointer(e), button: button(e.button) });
    this.#touches.delete(e.pointerId);
  }

  #noMenu(e: MouseEvent): void {
    e.preventDefault();
    e.stopPropagation(); // notebooks open menus of their own all the same
  }

  #doubleClick(e: MouseEvent): void {
    this.#now({ type: "double_click", ...this.#place(e), button: button(e.button), ntouches: 0, touches: {} });
  }

  #turnWheel(e: WheelEvent): void {
    // Without the focus the wheel is the page's.
    if (!this.#hasFocus) return;
    e.preventDefault();
    const unit = e.deltaMode === 1 ? LINE : e.deltaMode === 2 ? PAGE : 1;
    const { x, y } = this.#inStage(e);
    if (e.ctrlKey || e.metaKey) {
      this.#host.viewport.zoomBy(Math.exp((-e.deltaY * unit) / 300), x, y);
      this.#host.moved();
      return;
    }
    const before = this.#wheel ?? { dx: 0, dy: 0 };
    const dx = before.dx + e.deltaX * unit;
    const dy = before.dy + e.deltaY * unit;
    this.#wheel = { type: "wheel", ...this.#place(e), dx, dy };
    this.#soon();
  }

  #touch(e: PointerEvent): void {
    if (e.pointerType !== "touch") return;
    const { x, y } = this.#place(e);
    this.#touches.set(e.pointerId, { x, y, pressure: e.pressure });
  }

  #pointer(e: PointerEvent) {
    return {
      ...this.#place(e),
      button: 0,
      ntouches: this.#touches.size,
      touches: Object.fromEntries(this.#touches),
      pointer_id: e.pointerId,
      pointer_type: e.pointerType,
    };
  }

  #place(e: MouseEvent) {
    const { x, y } = this.#inStage(e);
    const at = this.#host.viewport.toFrame(x, y);
    return {
      x: round(at.x),
      y: round(at.y),
      inside: at.inside,
      pixel_ratio: this.#host.pixelRatio(),
      buttons: buttons(e.buttons),
      ...modifiers(e),
      timestamp: seconds(e),
    };
  }

  #inStage(e: MouseEvent): { x: number; y: number } {
    const { stage, viewport } = this.#host;
    const { left, top, width, height } = stage.getBoundingClientRect();
    // The two sizes differ where the page shows the view scaled, as slides do.
    const { box } = viewport;
    return { x: ((e.clientX - left) * box.width) / width, y: ((e.clientY - top) * box.height) / height };
  }

  /** The window lost the focus: nothing stays pressed. */
  #releaseAll(): void {
    this.#panning = null;
    for (const [id, e] of this.#pressed) {
      const held = buttons(e.buttons);
      const last = { ...this.#pointer(e), timestamp: Date.now() / 1000 };
      this.#touches.delete(id);
      for (const released of [...held]) {
        held.shift();
        this.#now({ ...last, type: "pointer_up", button: released, buttons: [...held], ntouches: this.#touches.size });
      }
      this.#now({ ...last, type: "pointer_leave", buttons: [] });
    }
    this.#pressed.clear();
    this.#releaseKeys();
  }

  // Keys -------------------------------------------------------------------------------------------------------------

  #keyDown(e: KeyboardEvent): void {
    e.stopPropagation();
    this.#bringKeysIntoView();
    if (e.isComposing) return;
    this.#repeating = e.repeat;
    if (!e.repeat) {
      this.#held.set(e.code, e.key);
      this.#now({ type: "key_down", key: e.key, code: e.code, ...modifiers(e), timestamp: seconds(e) });
    }
    if (e.key === "Escape") this.#giveFocusBack();
    else if (isOurs(e)) e.preventDefault();
  }

  #keyUp(e: KeyboardEvent): void {
    e.stopPropagation();
    if (this.#held.delete(e.code)) this.#now({ type: "key_up", key: e.key, code: e.code, ...modifiers(e), timestamp: seconds(e) });
    if (e.key === "Meta") this.#releaseKeys(); // macOS says of no key that it came up while Meta was down
  }

  #typed(e: globalThis.InputEvent): void {
    e.stopPropagation();
    // After the end of a composition Firefox tells its text once more.
    const again = !e.isComposing && e.inputType === "insertCompositionText";
    if (e.data && !again) this.#char(e.data, e.inputType, e.isComposing);
    if (!e.isComposing) this.#host.keys.value = "";
  }

  #composed(e: CompositionEvent): void {
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
    this.#now({ type: "focus_in", timestamp: seconds(e) });
  }

  #focusOut(): void {
    this.#releaseKeys();
    this.#now({ type: "focus_out", timestamp: Date.now() / 1000 });
  }

  #giveFocusBack(): void {
    this.#releaseKeys();
    this.#host.keys.blur();
    // In a notebook the cell that was active before, so that its shortcuts work again.
    const before = this.#cameFrom?.isConnected ? this.#cameFrom : this.#host.stage.closest<HTMLElement>("[tabindex]");
    before?.focus({ preventScroll: true });
  }

  /** A character typed where it can't be seen makes browsers scroll there. */
  #bringKeysIntoView(): void {
    const { x, y } = visibleMiddle(this.#host.stage);
    Object.assign(this.#host.keys.style, { left: `${x}px`, top: `${y}px` });
  }

  #releaseKeys(): void {
    for (const [code, key] of this.#held) this.#now({ type: "key_up", key, code, modifiers: [], timestamp: Date.now() / 1000 });
    this.#held.clear();
  }

  // Throttling -------------------------------------------------------------------------------------------------------

  #now(event: InputEvent): void {
    this.#flush();
    this.#host.emit(event);
  }

  /** Moves and wheels: the newest, respectively their sum, once a frame of the screen. */
  #soon(): void {
    this.#scheduled ||= requestAnimationFrame(() => this.#flush());
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

function bit(domButton: number): number {
  return button(domButton) - 1;
}

function modifiers(e: MouseEvent | KeyboardEvent): Modifiers {
  const held = { Shift: e.shiftKey, Control: e.ctrlKey, Alt: e.altKey, Meta: e.metaKey };
  return { modifiers: Object.entries(held).flatMap(([name, down]) => (down ? [name] : [])) };
}

/** Whether the key's default would act on the page: scroll it, or call up the browser's own doings. */
function isOurs(e: KeyboardEvent): boolean {
  if (UNTOUCHED.has(e.key) || e.getModifierState("AltGraph")) return false;
  if (e.ctrlKey || e.metaKey) return !BROWSER_COMBINATIONS.has(e.key.toLowerCase());
  return e.key.length > 1; // a character goes on into the text field and comes back as `char`
}

/** The middle of what can be seen of *element*, from its own corner. */
function visibleMiddle(element: HTMLElement): { x: number; y: number } {
  const own = element.getBoundingClientRect();
  let { left, top, right, bottom } = own;
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
  return { x: (left + right) / 2 - own.left, y: (top + bottom) / 2 - own.top };
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
