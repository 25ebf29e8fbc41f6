// A widget's model, as hosts of anywidget have it: traits, and messages to the kernel and from it.

import type { AnyModel } from "@anywidget/types";
import type { Traits } from "../src/notebook/traits";

const DEFAULTS = {
  url: "",
  host: "127.0.0.1",
  port: 5000,
  stream: "s",
  hub_id: "hub",
  hub_key: "",
  token: "",
  base_path: "",
  kernel_base: "",
  machine: "",
  image_only: false,
  main_thread_present: false,
  fit: "contain",
  background: "",
  height: undefined,
  label: "",
  _shape: [],
  touch: "focus",
  pinch: "view",
  on_screen_keyboard: false,
  show_toolbar: true,
  show_stats: false,
  sync_events: [],
  sync_stats: false,
  poster: "",
  last_picture: "",
} as unknown as Traits;

export class FakeModel {
  sent: any[] = [];
  saves = 0;
  #traits: Traits;
  #listeners = new Map<string, Set<(message?: unknown) => void>>();

  constructor(traits: Partial<Traits> = {}) {
    this.#traits = { ...DEFAULTS, ...traits };
  }

  get<K extends keyof Traits>(name: K): Traits[K] {
    return this.#traits[name];
  }

  set<K extends keyof Traits>(name: K, value: Traits[K]): void {
    if (this.#traits[name] === value) return;
    this.#traits[name] = value;
    this.#call(`change:${name}`);
  }

  save_changes(): void {
    this.saves++;
  }

  on(name: string, listener: (message?: unknown) => void): void {
    this.#listeners.set(name, (this.#listeners.get(name) ?? new Set()).add(listener));
  }

  off(name: string, listener: (message?: unknown) => void): void {
    this.#listeners.get(name)?.delete(listener);
  }

  send(message: object): void {
    this.sent.push(message);
  }

  /** The kernel sends a message. */
  receive(message: object): void {
    this.#call("msg:custom", message);
  }

  /** How many listeners there are. */
  get listeners(): number {
    return [...this.#listeners.values()].reduce((sum, { size }) => sum + size, 0);
  }

  #call(name: string, message?: unknown): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) listener(message);
  }
}

export function asModel(model: FakeModel): AnyModel<Traits> {
  return model as unknown as AnyModel<Traits>;
}
