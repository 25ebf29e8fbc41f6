// As much of a page as a view touches: elements that can be asked, and observers, frames and focus in the test's hands. Layout is
// what the test says; that browsers do it so is for the tests in browsers.

import { vi } from "vitest";

export class FakeElement extends EventTarget {
  [handler: `on${string}`]: ((event: Event) => void) | null;
  className = "";
  textContent = "";
  hidden = false;
  value = "";
  dataset: Record<string, string> = {};
  style: Record<string, any> = { setProperty(name: string, value: string) { this[name] = value; } };
  children: FakeElement[] = [];
  parentElement: FakeElement | null = null;
  captured = new Set<number>();
  /** What the page's layout makes of it. */
  rect = { left: 0, top: 0, width: 0, height: 0 };
  #attributes = new Map<string, string>();

  constructor(readonly tagName: string) {
    super();
  }

  readonly classList = {
    add: (name: string) => void (this.className = [...this.#classes().add(name)].join(" ")),
    toggle: (name: string, on: boolean) => {
      const classes = this.#classes();
      if (on) classes.add(name);
      else classes.delete(name);
      this.className = [...classes].join(" ");
    },
    contains: (name: string) => this.#classes().has(name),
  };

  #classes(): Set<string> {
    return new Set(this.className.split(" ").filter(Boolean));
  }

  setAttribute(name: string, value: string): void {
    this.#attributes.set(name, value);
  }

  getAttribute(name: string): string | null {
    return this.#attributes.get(name) ?? null;
  }

  append(...children: FakeElement[]): void {
    for (const child of children) {
      child.remove();
      child.parentElement = this;
      this.children.push(child);
    }
  }

  replaceChildren(...children: FakeElement[]): void {
    for (const child of [...this.children]) child.remove();
    this.append(...children);
  }

  replaceWith(other: FakeElement): void {
    const siblings = this.parentElement!.children;
    other.parentElement = this.parentElement;
    siblings[siblings.indexOf(this)] = other;
    this.parentElement = null;
  }

  remove(): void {
    this.parentElement?.children.splice(this.parentElement.children.indexOf(this), 1);
    this.parentElement = null;
  }

  cloneNode(): FakeElement {
    return Object.assign(new FakeElement(this.tagName), { className: this.className });
  }

  getRootNode(): unknown {
    return document;
  }

  get isConnected(): boolean {
    return this === (document.body as unknown) || !!this.parentElement?.isConnected;
  }

  get offsetHeight(): number {
    return this.rect.height;
  }

  /** Also of what is placed at a corner of what it is in. */
  getBoundingClientRect() {
    const place = (side: string, length: number) => (length * (Number.parseFloat(this.style[side] ?? "0") || 0)) / 100;
    const { left, top, width, height } = this.className === "rfb-corner" ? this.parentElement!.rect : this.rect;
    if (this.className !== "rfb-corner") return { left, top, right: left + width, bottom: top + height, x: left, y: top, width, height };
    return { x: left + place("left", width), y: top + place("top", height) };
  }

  /** By class alone. */
  closest(selector: string): FakeElement | null {
    return selector === `.${this.className.split(" ")[0]}` ? this : (this.parentElement?.closest(selector) ?? null);
  }

  focus(): void {
    const before = document.activeElement as unknown as FakeElement | null;
    if (before === this) return;
    before?.blur();
    Object.assign(document, { activeElement: this });
    fire(this, "focus", { relatedTarget: before });
  }

  blur(): void {
    if ((document.activeElement as unknown) !== this) return;
    Object.assign(document, { activeElement: null });
    fire(this, "blur");
  }

  setPointerCapture(id: number): void {
    this.captured.add(id);
  }

  hasPointerCapture(id: number): boolean {
    return this.captured.has(id);
  }

  getContext(): object {
    return { drawImage() {} };
  }

  toBlob(done: (blob: Blob | null) => void): void {
    done(new Blob(["png"]));
  }

  click(): void {
    fire(this, "click");
  }

  /** The first element in it of this class. */
  find(name: string): FakeElement {
    const all = (one: FakeElement): FakeElement[] => [one, ...one.children.flatMap(all)];
    const found = all(this).find((one) => one.classList.contains(name));
    if (!found) throw new Error(`there is no ${name}`);
    return found;
  }

  /** The button of this name. */
  button(label: string): FakeElement {
    const all = (one: FakeElement): FakeElement[] => [one, ...one.children.flatMap(all)];
    return all(this).find((one) => one.tagName === "button" && (one.getAttribute("aria-label") ?? one.textContent).startsWith(label))!;
  }
}

/** What observers and queries report to. */
class Observer {
  static made: Observer[] = [];
  connected = true;

  constructor(readonly call: (entries: object[]) => void) {
    Observer.made.push(this);
  }

  observe(): void {}

  disconnect(): void {
    this.connected = false;
  }
}
class FakeResizeObserver extends Observer {}
class FakeIntersectionObserver extends Observer {}

function observed(kind: typeof Observer, entries: object[]): void {
  for (const one of Observer.made) if (one instanceof kind && one.connected) one.call(entries);
}

/** An event with these properties comes to *target*; whether its default was left to the browser. */
export function fire(target: EventTarget, type: string, properties: object = {}): boolean {
  const event = new Event(type, { cancelable: true });
  for (const [name, value] of Object.entries(properties)) Object.defineProperty(event, name, { value });
  (target as FakeElement)[`on${type}`]?.(event);
  return target.dispatchEvent(event);
}

export interface FakePage {
  body: FakeElement;
  window: EventTarget;
  document: EventTarget & { visibilityState: string; hidden: boolean };
  /** The stage is laid out at this size. */
  resize(width: number, height: number, ratio?: number): void;
  /** The view is scrolled into sight, or out of it. */
  scroll(isIntersecting: boolean): void;
  /** The browser draws a frame. */
  frame(): void;
  /** Observers that are still connected. */
  observers(): number;
}

export function fakePage(): FakePage {
  Observer.made = [];
  const body = new FakeElement("body");
  const window = new EventTarget();
  const page = Object.assign(new EventTarget(), {
    body,
    visibilityState: "visible",
    hidden: false,
    activeElement: null,
    fullscreenEnabled: true,
    fullscreenElement: null,
    hasFocus: () => true,
    execCommand: () => false,
    createElement: (tag: string) => new FakeElement(tag),
    createElementNS: (_: string, tag: string) => new FakeElement(tag),
  });
  let frames: FrameRequestCallback[] = [];
  let size = { width: 0, height: 0 };
  const globals = {
    document: page,
    window: Object.assign(window, { parent: window }),
    location: { origin: "http://localhost:8888", hostname: "localhost" },
    navigator: { platform: "Linux", clipboard: { writeText: async () => {} } },
    screen: { availHeight: 1000 },
    devicePixelRatio: 1,
    innerWidth: 2000,
    innerHeight: 2000,
    HTMLElement: FakeElement,
    ResizeObserver: FakeResizeObserver,
    IntersectionObserver: FakeIntersectionObserver,
    CSSStyleSheet: class { replaceSync() {} },
    matchMedia: () => new EventTarget(),
    getComputedStyle: () => ({ width: `${size.width}px`, height: `${size.height}px`, overflow: "visible" }),
    requestAnimationFrame: (callback: FrameRequestCallback) => frames.push(callback),
    cancelAnimationFrame: () => void (frames = []),
    addEventListener: window.addEventListener.bind(window),
  };
  Object.assign(page, { adoptedStyleSheets: [] });
  for (const [name, value] of Object.entries(globals)) vi.stubGlobal(name, value);
  return {
    body,
    window,
    document: page,
    resize(width, height, ratio = 1) {
      vi.stubGlobal("devicePixelRatio", ratio);
      size = { width, height };
      body.find("rfb-stage").rect = { left: 0, top: 0, width, height };
      body.find("rfb-root").rect = { left: 0, top: 0, width, height };
      observed(FakeResizeObserver, []);
    },
    scroll: (isIntersecting) => observed(FakeIntersectionObserver, [{ isIntersecting }]),
    frame() {
      for (const callback of frames.splice(0)) callback(performance.now());
    },
    observers: () => Observer.made.filter(({ connected }) => connected).length,
  };
}
