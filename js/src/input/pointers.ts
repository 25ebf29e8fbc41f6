// Mouse, touches and pens: buttons, moves, wheel, and panning the view itself.

import type { PointerFields, TouchPoint } from "../input_events";
import { type ButtonChange, buttonChanges, type Keyboard } from "./held";
import type { InputContext, InputHost } from "./host";
import type { Keys } from "./keys";
import { button, buttons, round, secondsOf } from "./numbers";
import { inBox, type Markers, type Point } from "./quad";
import type { EventQueue } from "./queue";

const LINE = 100 / 3;
const PAGE = 800;

export class Pointers {
  #host: InputHost;
  #keys: Keys;
  #keyboard: Keyboard;
  #queue: EventQueue;
  #markers: Markers;
  #touches = new Map<number, TouchPoint>();
  /** The pointers that hold a button, as they were seen last. */
  #pressed = new Map<number, PointerFields>();
  /** Touches that are the page's unless they turn out to be taps. */
  #taps = new Map<number, PointerEvent>();
  #panning: { id: number; at: Point | null } | null = null;

  constructor({ host, keyboard, queue, markers, signal }: InputContext, keys: Keys) {
    this.#host = host;
    this.#keys = keys;
    this.#keyboard = keyboard;
    this.#queue = queue;
    this.#markers = markers;
    const { stage } = host;
    const on = <E extends Event>(target: EventTarget, type: string, listener: (event: E) => void, passive = true) =>
      target.addEventListener(type, listener as EventListener, { signal, passive });
    on<PointerEvent>(stage, "pointerdown", (e) => this.#pointerDown(e));
    on<PointerEvent>(stage, "pointermove", (e) => this.#pointerMove(e));
    on<PointerEvent>(stage, "pointerup", (e) => this.#pointerUp(e));
    on<PointerEvent>(stage, "pointercancel", (e) => this.#pointerLost(e));
    // It comes to the document where the view was removed.
    on<PointerEvent>(document, "lostpointercapture", (e) => this.#pointerLost(e));
    on<PointerEvent>(stage, "pointerenter", (e) => this.#queue.now({ type: "pointer_enter", ...this.#pointer(e) }));
    on<PointerEvent>(stage, "pointerleave", (e) => this.#pointerLeave(e));
    // Without its default a press neither selects text nor moves the focus, which the keys take instead.
    on<MouseEvent>(stage, "mousedown", (e) => e.preventDefault(), false);
    on<MouseEvent>(stage, "dblclick", (e) => this.#doubleClick(e));
    on<MouseEvent>(stage, "contextmenu", (e) => this.#noMenu(e), false);
    on<WheelEvent>(stage, "wheel", (e) => this.#turnWheel(e), false);
  }

  /** They act in the picture, instead of scrolling the page. */
  get wantsTouches(): boolean {
    return this.#host.touch === "always" || (this.#host.touch === "focus" && this.#keys.hasFocus);
  }

  /** All buttons come up. */
  release(): void {
    this.#panning = null;
    this.#taps.clear();
    for (const [id, pointer] of this.#pressed) {
      this.#releasePointer(id);
      this.#queue.now({ ...pointer, type: "pointer_leave", buttons: [], timestamp: Date.now() / 1000 });
    }
  }

  #pointerDown(e: PointerEvent): void {
    if (e.pointerType !== "mouse" && !this.wantsTouches) return void this.#taps.set(e.pointerId, e);
    this.#keys.takeFocus();
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
    this.#queue.move(e.pointerId, { type: "pointer_move", ...this.#pointer(e) });
  }

  #pointerUp(e: PointerEvent): void {
    if (this.#panning?.id === e.pointerId) this.#panning = null;
    const tap = this.#taps.get(e.pointerId);
    if (tap) {
      this.#taps.delete(e.pointerId);
      this.#keys.takeFocus();
      this.#updateButtons(tap, tap.buttons, tap.button);
    }
    this.#updateButtons(e, 0, -1);
  }

  #pointerLeave(e: PointerEvent): void {
    this.#taps.delete(e.pointerId);
    if (!this.#host.stage.hasPointerCapture(e.pointerId)) this.#releasePointer(e.pointerId);
    this.#queue.now({ type: "pointer_leave", ...this.#pointer(e) });
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
      this.#queue.now({ ...pointer, ...change });
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
    this.#queue.now({ type: "double_click", ...this.#place(e, this.#held), button: button(e.button), ntouches: 0, touches: {} });
  }

  #turnWheel(e: WheelEvent): void {
    const zooms = this.#host.pinch === "view" && (e.ctrlKey || e.metaKey);
    // Without the focus all else is the page's.
    if (!zooms && !this.#keys.hasFocus) return;
    e.preventDefault();
    const unit = e.deltaMode === 1 ? LINE : e.deltaMode === 2 ? PAGE : 1;
    if (zooms) {
      const at = this.#inStage(e);
      if (at) this.#host.viewport.zoomBy(Math.exp((-e.deltaY * unit) / 300), at.x, at.y);
      this.#host.moved();
      return;
    }
    this.#queue.turn({ type: "wheel", ...this.#place(e, this.#held), dx: e.deltaX * unit, dy: e.deltaY * unit });
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
      timestamp: secondsOf(e),
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
}
