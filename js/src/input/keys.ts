// The keyboard and text: what is typed, pasted and composed in the field that holds the view's focus.

import type { KeyChange, Keyboard } from "./held";
import type { InputContext, InputHost } from "./host";
import { secondsOf } from "./numbers";
import { inBox, type Markers, type Point } from "./quad";
import type { EventQueue } from "./queue";

/** Keys with Control or Meta that stay the browser's own. */
const BROWSER_COMBINATIONS = new Set("rtwnlcvx+-=0");
/** Keys that keep their meaning: leaving, function keys of the browser, and what input methods need. */
const UNTOUCHED = new Set(["Tab", "F5", "F11", "F12", "Process", "Unidentified", "Dead"]);
/** Characters in one event, and of one input or paste: typed text is sent in pieces, and neither without end. */
const PIECE = 200;
const LONGEST = 10_000;

export class Keys {
  #host: InputHost;
  #keyboard: Keyboard;
  #queue: EventQueue;
  #markers: Markers;
  #onFocus: () => void;
  #repeating = false;
  #isComposing = false;
  #cameFrom: HTMLElement | null = null;

  /** *onFocus* is called when the view gets the focus or loses it. */
  constructor({ host, keyboard, queue, markers, signal }: InputContext, onFocus: () => void) {
    this.#host = host;
    this.#keyboard = keyboard;
    this.#queue = queue;
    this.#markers = markers;
    this.#onFocus = onFocus;
    const { keys } = host;
    const on = <E extends Event>(type: string, listener: (event: E) => void, passive = true) =>
      keys.addEventListener(type, listener as EventListener, { signal, passive });
    on<KeyboardEvent>("keydown", (e) => this.#keyDown(e), false);
    on<KeyboardEvent>("keyup", (e) => this.#keyUp(e));
    on<globalThis.InputEvent>("input", (e) => this.#typed(e));
    on<ClipboardEvent>("paste", (e) => this.#paste(e), false);
    on("compositionstart", () => (this.#isComposing = true));
    on<CompositionEvent>("compositionend", (e) => this.#composed(e));
    on<FocusEvent>("focus", (e) => this.#focusIn(e));
    on("blur", () => this.#focusOut());
  }

  get hasFocus(): boolean {
    return (this.#host.keys.getRootNode() as Document | ShadowRoot).activeElement === this.#host.keys;
  }

  takeFocus(): void {
    // A click confirms what is being composed, as in a field that is seen; without the focus browsers do that.
    if (this.#isComposing) this.#host.keys.blur();
    this.#host.keys.focus({ preventScroll: true });
  }

  /** All keys come up. */
  release(): void {
    for (const change of this.#keyboard.release()) this.#queue.now({ ...change, modifiers: [], timestamp: Date.now() / 1000 });
  }

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
    const [modifiers, timestamp] = [this.#keyboard.modifiers(e), secondsOf(e)];
    for (const change of changes) this.#queue.now({ ...change, modifiers, timestamp });
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
    this.#queue.now({ type: "paste", text: text.slice(0, LONGEST).replace(/[\uD800-\uDBFF]$/, ""), timestamp: secondsOf(e) });
  }

  #char(data: string, inputType: string, isComposing: boolean): void {
    const event = { input_type: inputType, is_composing: isComposing, repeat: this.#repeating };
    const characters = [...data].slice(0, LONGEST);
    for (let i = 0; i < characters.length; i += PIECE) {
      const piece = characters.slice(i, i + PIECE).join("");
      this.#queue.now({ type: "char", data: piece, ...event, timestamp: Date.now() / 1000 });
    }
  }

  #focusIn(e: FocusEvent): void {
    const from = e.relatedTarget;
    if (from instanceof HTMLElement && !from.closest(".rfb-root")) this.#cameFrom = from;
    this.#bringKeysIntoView();
    this.#onFocus();
    this.#queue.now({ type: "focus_in", timestamp: secondsOf(e) });
  }

  #focusOut(): void {
    this.release();
    this.#onFocus();
    this.#queue.now({ type: "focus_out", timestamp: Date.now() / 1000 });
  }

  #restoreFocus(): void {
    this.release();
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
