// One picture in one element of any page: canvas, input, chrome, and the engine that feeds it.

import { Input, type InputHost, type Pinch, type Touch } from "../input/events";
import { type Fit, Viewport } from "../input/viewport";
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
import type { ViewOptions } from "./options";
import { asPng, download } from "./screenshot";
import { sizeOf } from "./size";
import { Styles } from "./styles";

const FITS: Fit[] = ["contain", "cover", "fill", "none"];
/** Device pixels a frame's pixel must cover before its edges are shown hard. */
const CRISP_FROM = 3;
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
  #viewport = new Viewport();
  #box: Box;
  #inputHost: InputHost;
  #input: Input;
  #chrome: Chrome;
  #engine: Engine;
  #clipboard: Clipboard;
  #features = { channelBytes: 0, clipboard: false };
  #listeners = new Map<string, Set<(data: unknown) => void>>();
  #end = new AbortController();
  #state: State = "connecting";
  #message = "";
  #label = "";
  #tries: Try[] = [];
  #workerTry: Try[] = [];
  #pixelRatio = 1;
  /** The publisher makes the picture for the box. */
  #matched = false;
  /** The picture is of the hub that is connected now. */
  #fresh = false;
  #onScreen = true;
  #shown = true;

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
      zoomBy: (factor) => this.#zoomBy(factor),
      nextFit: () => this.setFit(FITS[(FITS.indexOf(this.#viewport.fit) + 1) % FITS.length]!),
      resetView: () => this.resetView(),
    });
    this.#layers.append(this.#box.handle);
    this.#inputHost = {
      stage: this.#stage,
      keys: this.#keys,
      viewport: this.#viewport,
      touch: options.touch ?? "focus",
      pinch: options.pinch ?? "view",
      pixelRatio: () => this.#pixelRatio,
      pastes: () => this.#features.clipboard,
      emit: (event: InputEvent) => this.#emit(event),
      moved: () => this.#layOut(),
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
    this.#listen();
  }

  /** The attempts to reach the hub, oldest first. */
  get tries(): Try[] {
    return [...this.#workerTry, ...this.#tries];
  }

  /** The picture's canvas, with as many pixels as the frame has. To be drawn elsewhere, not to be drawn on. */
  get canvas(): HTMLCanvasElement {
    return this.#canvas;
  }

  /** The connection's state, as `onState` gets it. */
  get state(): State {
    return this.#state;
  }

  /** Change how the picture fills the box; undoes zoom and pan. */
  setFit(fit: Fit): void {
    this.#viewport.fit = fit;
    this.#shapeBox();
    this.resetView();
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
    this.#label = label || "Remote picture";
    this.#root.setAttribute("aria-label", this.#label);
    this.#keys.setAttribute("aria-label", `${this.#label}: keys go to it; Escape leaves`);
    this.#showState();
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
    this.#viewport.reset();
    this.#layOut();
  }

  /** The picture as a PNG, with the frame's own pixels. */
  async screenshot(): Promise<Blob> {
    const { width, height } = this.#viewport.frame;
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

  /** The browser shows a page again that it kept after it was left: the worker ended then, and has the old canvas. */
  #comeBack(): void {
    const canvas = this.#canvas.cloneNode() as HTMLCanvasElement;
    this.#canvas.replaceWith(canvas);
    this.#canvas = canvas;
    this.#engine = this.#start();
    this.#viewport.setBox(0, 0, 1);
    this.#measure();
    if (!this.#shown) this.#emit({ type: "hide", timestamp: Date.now() / 1000 });
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
    this.#root.dataset.state = this.#state;
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
    const seen = new IntersectionObserver((entries) => {
      this.#onScreen = entries.at(-1)!.isIntersecting;
      if (!this.#root.isConnected) this.#input.release();
      this.#showOrHide();
    });
    seen.observe(this.#root);
    document.addEventListener("visibilitychange", () => this.#showOrHide(), { signal });
    const wake = () => this.#engine.post({ type: "wake" });
    addEventListener("online", wake, { signal });
    // A page that browsers keep would keep its connection too, and its worker is frozen before it could say anything.
    addEventListener("pagehide", () => this.#engine.dispose({ atOnce: true }), { signal });
    addEventListener("pageshow", ({ persisted }) => persisted && this.#comeBack(), { signal });
    for (const name of ["visibilitychange", "resume"]) {
      document.addEventListener(name, () => document.visibilityState === "visible" && wake(), { signal });
    }
    this.#watchRatio();
    this.#showOrHide();
    signal.addEventListener("abort", () => {
      resized.disconnect();
      seen.disconnect();
    });
  }

  // What the engine reports ------------------------------------------------------------------------------------------

  #take(report: Report): void {
    if (this.#end.signal.aborted) return;
    switch (report.type) {
      case "state":
        this.#takeState(report.state, report.message);
        break;
      case "tried":
        this.#tries = report.tries;
        if (report.candidate) store.candidate = report.candidate;
        this.#showTries();
        break;
      case "onThisThread":
        this.#workerTry = [noWorker(report.why)];
        this.#showTries();
        break;
      case "remark":
        this.#chrome.showRemark(report.text);
        break;
      case "shape":
        this.#takeShape(report);
        break;
      case "frame":
        this.#resizeFrame(report.width, report.height, report.pixelRatio);
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
      case "stats":
        this.#chrome.updateStats(report.stats, `${this.#viewport.frame.width}×${this.#viewport.frame.height}`);
        this.#options.onFigures?.(report.stats);
    }
  }

  #takeState(state: State, message: string): void {
    [this.#state, this.#message] = [state, message];
    if (state !== "live") {
      this.#fresh = false;
      this.#input.release(); // as the hub does of a viewer that goes
    }
    this.#showState();
    this.#options.onState?.(state, message);
  }

  /** Of frames to come: one that is there counts more, but for whether it follows the box. */
  #takeShape({ width, height, matched }: Extract<Report, { type: "shape" }>): void {
    const changed = matched !== this.#matched;
    this.#matched = matched;
    if (!this.#viewport.frame.width) this.#box.setPicture(width, height, matched);
    else if (changed) this.#shapeBox();
  }

  #resizeFrame(width: number, height: number, pixelRatio: number): void {
    this.#pixelRatio = pixelRatio;
    const { frame } = this.#viewport;
    if (!this.#fresh) {
      this.#fresh = true;
      this.#showState();
      this.#options.onPicture?.();
    }
    if (frame.width === width && frame.height === height) return;
    this.#viewport.setFrame(width, height);
    this.#shapeBox();
    this.#canvas.classList.add("rfb-has-picture");
    this.#layOut();
  }

  #showTries(): void {
    this.#chrome.showTries(this.tries);
    this.#options.onTried?.(this.tries);
  }

  #showState(): void {
    this.#root.dataset.state = this.#state === "live" && !this.#fresh ? "waiting" : this.#state;
    const words = this.#chrome.showState(this.#state, this.#message, this.#fresh, this.#label);
    this.#canvas.setAttribute("aria-label", `${this.#label}: ${words}`);
  }

  // Size and place ---------------------------------------------------------------------------------------------------

  /** Give the box the picture's shape, unless it has it: what an application makes for the box must not change that. */
  #shapeBox(): void {
    const { frame, fit } = this.#viewport;
    const oneToOne = fit === "none";
    this.#box.setOneToOne(oneToOne);
    if (!frame.width || (this.#viewport.fitsBox && !this.#matched)) return;
    const scale = oneToOne ? devicePixelRatio : this.#pixelRatio;
    this.#box.setPicture(frame.width / scale, frame.height / scale, this.#matched);
  }

  #measure(): void {
    this.#styles.ensure();
    const size = sizeOf(this.#stage);
    const { width, height, ratio } = size;
    const { box } = this.#viewport;
    if (!width || !height || (width === box.width && height === box.height && ratio === box.ratio)) return;
    this.#box.measured();
    this.#viewport.setBox(width, height, ratio);
    this.#layOut();
    this.#engine.post({ type: "send", message: { type: "set_viewport", ...size } });
    this.#emit({ type: "resize", ...size, timestamp: Date.now() / 1000 });
  }

  #watchRatio(): void {
    const { signal } = this.#end;
    const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    const changed = () => {
      this.#measure();
      this.#shapeBox(); // one to one is in pixels of the screen
      this.#watchRatio();
    };
    if (!signal.aborted) query.addEventListener("change", changed, { once: true, signal });
  }

  #layOut(): void {
    const { left, top, width, height } = this.#viewport.placement();
    Object.assign(this.#canvas.style, { width: `${width}px`, height: `${height}px`, left: `${left}px`, top: `${top}px` });
    this.#canvas.classList.toggle("rfb-crisp", this.#viewport.magnification() >= CRISP_FROM);
    this.#chrome.showZoom(this.#viewport.zoom);
  }

  #showOrHide(): void {
    const shown = this.#onScreen && document.visibilityState === "visible";
    if (shown === this.#shown) return;
    this.#shown = shown;
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

  #zoomBy(factor: number): void {
    const { width, height } = this.#viewport.box;
    this.#viewport.zoomBy(factor, width / 2, height / 2);
    this.#layOut();
  }

  async #saveScreenshot(): Promise<void> {
    if (this.#viewport.frame.width) download(await this.screenshot(), "picture.png");
  }

  #toggleFullScreen(): void {
    const change = document.fullscreenElement ? document.exitFullscreen() : this.#root.requestFullscreen();
    change.catch((error: Error) => console.warn("rfb: no full screen", error));
  }
}

function noWorker(outcome: string): Try {
  const now = Date.now();
  return { way: "worker", url: "", started: now, ended: now, outcome };
}
