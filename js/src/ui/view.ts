// One picture in one element of any page: canvas, input, chrome, and the engine that feeds it.

import { Input } from "../input/events";
import type { InputHost, Pinch, Touch } from "../input/host";
import type { Fit } from "../input/viewport";
import type { InputEvent } from "../input_events";
import { isLoopback, type Target } from "../net/candidates";
import type { State } from "../net/connection";
import { KERNEL_SILENT, type Try } from "../net/diagnosis";
import { store } from "../net/store";
import { channelMessage } from "../protocol";
import { type Engine, startEngine } from "../worker/engine";
import type { Report } from "../worker/messages";
import { Box, type Height } from "./box";
import { Chrome } from "./chrome";
import { Clipboard } from "./clipboard";
import { element } from "./element";
import { Layout } from "./layout";
import type { ViewOptions } from "./options";
import { asPng, download } from "./screenshot";
import { Status } from "./status";
import { Styles } from "./styles";
import { Visibility } from "./visibility";

const FITS: Fit[] = ["contain", "cover", "fill", "none"];
/** A kernel that is at rest says where the hub is in less. */
const TARGET_TIMEOUT_MS = 3000;

/** Shows one stream in an element of any page: the picture live, with a toolbar, and input back to the publisher. */
export class RemoteFramebufferView {
  #options: ViewOptions;
  #root = element("div", "rfb-root");
  #layers = element("div", "rfb-layers");
  #stage = element("div", "rfb-stage");
  #canvas = element("canvas", "rfb-canvas");
  #keys = element("textarea", "rfb-keys");
  #styles = new Styles();
  #box: Box;
  #layout: Layout;
  #inputHost: InputHost;
  #input: Input;
  #chrome: Chrome;
  #engine: Engine;
  #clipboard: Clipboard;
  #features = { channelBytes: 0, clipboard: false };
  #listeners = new Map<string, Set<(data: unknown) => void>>();
  #end = new AbortController();
  #status: Status;
  #visibility: Visibility;

  /** Append the view to *parent*, and connect. */
  constructor(parent: HTMLElement, options: ViewOptions) {
    this.#options = options;
    this.#box = new Box(this.#root, options.height, options.onHeight);
    const [width, height] = options.shape ?? [];
    if (width && height) this.#box.setPicture(width, height, false);
    this.#build(parent);
    this.#chrome = new Chrome(this.#layers, {
      retry: () => this.#retry(),
      screenshot: () => void this.#saveScreenshot(),
      fullScreen: () => this.#toggleFullScreen(),
      zoomBy: (factor) => this.#layout.zoomBy(factor),
      nextFit: () => this.setFit(FITS[(FITS.indexOf(this.#layout.viewport.fit) + 1) % FITS.length]!),
      resetView: () => this.resetView(),
    });
    this.#layers.append(this.#box.handle);
    this.#status = new Status(this.#root, this.#chrome, options, (words) => this.#canvas.setAttribute("aria-label", words));
    this.#layout = new Layout(this.#stage, this.#canvas, this.#box, (zoom) => this.#chrome.showZoom(zoom));
    this.#inputHost = {
      stage: this.#stage,
      keys: this.#keys,
      viewport: this.#layout.viewport,
      touch: options.touch ?? "focus",
      pinch: options.pinch ?? "view",
      pixelRatio: () => this.#layout.pixelRatio,
      pastes: () => this.#features.clipboard,
      emit: (event: InputEvent) => this.#emit(event),
      moved: () => this.#layout.place(),
    };
    this.#input = new Input(this.#inputHost, this.#end.signal);
    this.setOnScreenKeyboard(options.onScreenKeyboard ?? false);
    this.#chrome.showToolbar(options.showToolbar ?? true);
    this.#chrome.showStats(options.showStats ?? false);
    this.setFit(options.fit ?? "contain");
    this.setBackground(options.background ?? "");
    this.setLabel(options.label ?? "");
    this.#clipboard = new Clipboard(this.#stage, this.#keys, this.#end.signal);
    this.#engine = this.#start();
    this.#visibility = new Visibility(this.#root, this.#end.signal, (shown) => this.#showOrHide(shown));
    this.#listen();
  }

  /** The attempts to reach the hub, oldest first. */
  get tries(): Try[] {
    return this.#status.tries;
  }

  /** The picture's canvas, with as many pixels as the frame has. To be drawn elsewhere, not to be drawn on. */
  get canvas(): HTMLCanvasElement {
    return this.#canvas;
  }

  /** The connection's state, as `onState` gets it. */
  get state(): State {
    return this.#status.state;
  }

  /** Change how the picture fills the box; undoes zoom and pan. */
  setFit(fit: Fit): void {
    this.#layout.setFit(fit);
    this.#chrome.showFit(fit);
  }

  /** Set the CSS color beside the picture; empty is the theme's. */
  setBackground(color: string): void {
    this.#root.style.background = color;
  }

  /** Set the height of the box. */
  setHeight(height: Height): void {
    this.#box.setHeight(height);
  }

  /** Name the picture for screen readers; empty is "Remote picture". */
  setLabel(label: string): void {
    const name = label || "Remote picture";
    this.#root.setAttribute("aria-label", name);
    this.#keys.setAttribute("aria-label", `${name}: keys go to it; Escape leaves`);
    this.#status.setLabel(name);
  }

  /** Show or hide the toolbar. */
  setToolbar(shown: boolean): void {
    this.#chrome.showToolbar(shown);
  }

  /** Show or hide the panel of statistics. */
  setStats(shown: boolean): void {
    this.#chrome.showStats(shown);
  }

  /** Set when touches and pens act in the picture. */
  setTouch(touch: Touch): void {
    this.#inputHost.touch = touch;
    this.#input.showTouch();
  }

  /** Set who gets Control and wheel, and a trackpad's pinch. */
  setPinch(pinch: Pinch): void {
    this.#inputHost.pinch = pinch;
  }

  /** Set whether the on-screen keyboard opens with the focus. */
  setOnScreenKeyboard(opens: boolean): void {
    this.#keys.inputMode = opens ? "text" : "none";
  }

  /** Undo zoom and pan. */
  resetView(): void {
    this.#layout.reset();
  }

  /** The picture as a PNG, with the frame's own pixels. */
  async screenshot(): Promise<Blob> {
    const { width, height } = this.#layout.viewport.frame;
    return await asPng(this.#canvas, width, height);
  }

  /**
   * Send *data* to the application, where `display.on_message(channel)` gets it: a buffer or a view of one as bytes, anything
   * else as JSON. Messages of one channel arrive in order, or not at all where the connection is lost. With `latest` it replaces
   * an unsent message of the channel that was sent so too: for values that only count while they are new. Returns false, and sends
   * nothing, while there is no connection. Throws a `TypeError` for a bad channel name (1 to 64 letters, digits, `.`, `_`, `~`
   * or `-`) or data that JSON can't hold, and a `RangeError` for more bytes than the hub takes (1 MiB by default).
   */
  send(channel: string, data: unknown, { latest = false } = {}): boolean {
    const { channelBytes } = this.#features;
    if (!channelBytes) return false;
    const message = channelMessage(channel, data, channelBytes);
    this.#engine.post({ type: "enqueue", message, latestOf: latest ? channel : "" });
    return true;
  }

  /** Call *listener* with all that `display.send` sends on *channel*, bytes as a `Uint8Array`. Returns a function that removes it. */
  onMessage(channel: string, listener: (data: unknown) => void): () => void {
    const listeners = this.#listeners.get(channel) ?? new Set();
    this.#listeners.set(channel, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** End the connection and remove everything. The view can't be used again. */
  dispose(): void {
    this.#end.abort();
    this.#engine.dispose();
    this.#styles.remove();
    this.#root.remove();
  }

  #start(): Engine {
    const engine = startEngine(this.#canvas, this.#options.mainThreadPresent ?? false, (report) => this.#take(report));
    void this.#open(engine);
    return engine;
  }

  /** A new start after the worker ended, which had the old canvas: it died, or the page was left and is shown again. */
  #comeBack(): void {
    this.#engine.dispose();
    const canvas = this.#canvas.cloneNode() as HTMLCanvasElement;
    this.#canvas.replaceWith(canvas);
    this.#canvas = canvas;
    this.#engine = this.#start();
    this.#layout.setCanvas(canvas);
    this.#measure();
    if (!this.#visibility.shown) this.#emit({ type: "hide", timestamp: Date.now() / 1000 });
  }

  async #open(engine: Engine): Promise<void> {
    const { url = "", token = "", imageOnly = false } = this.#options;
    const nowhere = { stream: "", port: 0, machine: "", local: isLoopback(location.hostname), hubId: "", hubKey: "" };
    const given: Target = { candidates: [{ name: "url", url, proof: false }], ...nowhere, token };
    const late = () => this.#take({ type: "state", state: "connecting", message: KERNEL_SILENT });
    const timer = setTimeout(late, TARGET_TIMEOUT_MS);
    this.#end.signal.addEventListener("abort", () => clearTimeout(timer));
    const target = await Promise.resolve(this.#options.target ?? given).catch((error: Error) => error);
    clearTimeout(timer);
    if (target instanceof Error) return this.#take({ type: "state", state: "failed", message: target.message });
    if (engine === this.#engine && !this.#end.signal.aborted) engine.post({ type: "open", target, ratio: devicePixelRatio, imageOnly });
  }

  #build(parent: HTMLElement): void {
    this.#root.setAttribute("role", "group");
    // JupyterLab's own word for: no shortcuts in here.
    this.#root.dataset.lmSuppressShortcuts = "true";
    this.#keys.setAttribute("autocomplete", "off");
    this.#keys.setAttribute("autocapitalize", "off");
    this.#keys.spellcheck = false;
    this.#canvas.setAttribute("role", "img");
    this.#stage.append(this.#canvas, this.#keys);
    this.#layers.append(this.#stage);
    this.#root.append(this.#styles.element, this.#box.sizer, this.#layers);
    parent.append(this.#root);
  }

  #listen(): void {
    const { signal } = this.#end;
    const resized = new ResizeObserver(() => this.#measure());
    resized.observe(this.#stage);
    signal.addEventListener("abort", () => resized.disconnect());
    const wake = () => this.#engine.post({ type: "wake" });
    addEventListener("online", wake, { signal });
    // A page that browsers keep would keep its connection too, and its worker is frozen before it could say anything.
    addEventListener("pagehide", () => this.#engine.dispose({ atOnce: true }), { signal });
    addEventListener("pageshow", ({ persisted }) => persisted && this.#comeBack(), { signal });
    for (const name of ["visibilitychange", "resume"]) {
      document.addEventListener(name, () => document.visibilityState === "visible" && wake(), { signal });
    }
    this.#layout.watchRatio(() => this.#measure(), signal);
  }

  // What the engine reports ------------------------------------------------------------------------------------------

  #take(report: Report): void {
    if (this.#end.signal.aborted) return;
    switch (report.type) {
      case "state":
        if (report.state !== "live") this.#input.release(); // as the hub does of a viewer that goes
        this.#status.setState(report.state, report.message);
        break;
      case "tried":
        if (report.candidate) store.candidate = report.candidate;
        this.#status.setTries(report.tries);
        break;
      case "onThisThread":
        this.#status.setNoWorker(report.why);
        break;
      case "remark":
        this.#chrome.showRemark(report.text);
        break;
      case "shape":
        this.#layout.setShape(report);
        break;
      case "frame":
        this.#layout.setFrame(report);
        this.#status.setFresh();
        break;
      case "features":
        this.#features = report;
        if (!report.clipboard) this.#clipboard.forget();
        break;
      case "message":
        for (const listener of this.#listeners.get(report.channel) ?? []) listener(report.data);
        break;
      case "cursor":
        this.#stage.style.cursor = report.cursor ?? "";
        break;
      case "clipboard":
        if (this.#features.clipboard) this.#clipboard.put(report.text);
        break;
      case "died":
        this.#comeBack();
        break;
      case "stats": {
        const { width, height } = this.#layout.viewport.frame;
        this.#chrome.updateStats(report.stats, `${width}×${height}`);
        this.#options.onFigures?.(report.stats);
      }
    }
  }

  // What goes to the hub ---------------------------------------------------------------------------------------------

  #measure(): void {
    this.#styles.ensure();
    const size = this.#layout.measure();
    if (!size) return;
    this.#engine.post({ type: "send", message: { type: "set_viewport", ...size } });
    this.#emit({ type: "resize", ...size, timestamp: Date.now() / 1000 });
  }

  #showOrHide(shown: boolean): void {
    if (!this.#root.isConnected) this.#input.release();
    this.#emit({ type: shown ? "show" : "hide", timestamp: Date.now() / 1000 });
  }

  #emit(event: InputEvent): void {
    this.#engine.post({ type: "send", message: { type: "event", event } });
    this.#options.onEvent?.(event);
  }

  // What the user asks of the view itself ----------------------------------------------------------------------------

  #retry(): void {
    this.#keys.focus({ preventScroll: true });
    this.#engine.post({ type: "retry" });
  }

  async #saveScreenshot(): Promise<void> {
    if (this.#layout.viewport.frame.width) download(await this.screenshot(), "picture.png");
  }

  #toggleFullScreen(): void {
    const change = document.fullscreenElement ? document.exitFullscreen() : this.#root.requestFullscreen();
    change.catch((error: Error) => console.warn("rfb: no full screen", error));
  }
}
