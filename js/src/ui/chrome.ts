// What stands around the picture: toolbar, status, statistics, and the words for what is wrong.

import type { Fit } from "../input/viewport";
import type { State } from "../net/connection";
import type { Try } from "../net/diagnosis";
import type { ViewStats } from "../worker/messages";
import { element } from "./element";
import { StatsPanel } from "./stats_panel";

export interface ChromeActions {
  retry(): void;
  screenshot(): void;
  fullScreen(): void;
  nextFit(): void;
  zoomBy(factor: number): void;
  resetView(): void;
}

const ICONS = {
  fit: "M3 5h18v14H3zM8 9h8v6H8z",
  reset: "M4 5v5h5M4.5 10a8 8 0 1 1-.6 4",
  in: "M12 5v14M5 12h14",
  out: "M5 12h14",
  stats: "M5 20v-7M12 20V5M19 20v-10",
  tries: "M5 12a10 10 0 0 1 14 0M8 15.5a5.5 5.5 0 0 1 8 0M12 19h.01",
  screenshot: "M4 8h3l2-3h6l2 3h3v11H4zM12 16.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z",
  full: "M9 4H4v5M15 4h5v5M9 20H4v-5M15 20h5v-5",
};

const ZOOM_STEP = 1.5;

const WORDS: Record<State, string> = {
  connecting: "Connecting…",
  live: "",
  reconnecting: "Reconnecting…",
  closed: "Closed",
  failed: "Not connected",
};

export class Chrome {
  #toolbar = element("div", "rfb-toolbar");
  #status = element("div", "rfb-status");
  #statsPanel = new StatsPanel();
  #notice = element("div", "rfb-notice");
  #words = element("p", "rfb-words");
  #tried = element("details", "rfb-tried");
  #list = element("ol", "rfb-list");
  #triesButton: HTMLButtonElement;
  #retry = element("button", "rfb-retry");
  /** For those who can't see it: there may be several views on a page. */
  #announcement = element("div", "rfb-said");
  #remark = "";
  #message = "";
  #fit: HTMLButtonElement;
  #reset: HTMLButtonElement;
  #zoom = element("span", "rfb-zoom");
  #statsButton: HTMLButtonElement;

  constructor(root: HTMLElement, actions: ChromeActions) {
    this.#toolbar.setAttribute("role", "toolbar");
    this.#toolbar.setAttribute("aria-label", "View");
    this.#announcement.setAttribute("role", "status");
    this.#toolbar.append(this.#zoom);
    this.#reset = this.#add("reset", "Reset zoom", actions.resetView);
    this.#reset.title = "Reset zoom (Alt and drag pans)";
    this.#add("out", "Zoom out", () => actions.zoomBy(1 / ZOOM_STEP)).title = "Zoom out (Control and wheel)";
    this.#add("in", "Zoom in", () => actions.zoomBy(ZOOM_STEP)).title = "Zoom in (Control and wheel)";
    this.#fit = this.#add("fit", "Fit", actions.nextFit);
    this.#statsButton = this.#add("stats", "Statistics", () => this.showStats(!this.#statsPanel.shown));
    this.#triesButton = this.#add("tries", "Connection", () => this.#showConnection(!this.#triesShown));
    this.#add("screenshot", "Save picture", actions.screenshot);
    this.#add("full", "Full screen", actions.fullScreen).hidden = !document.fullscreenEnabled;
    this.#retry.type = "button";
    this.#retry.textContent = "Try again";
    this.#retry.onclick = actions.retry;
    const summary = document.createElement("summary");
    summary.textContent = "What was tried";
    this.#tried.append(summary, this.#list);
    this.#notice.append(this.#words, this.#retry, this.#tried);
    root.append(this.#announcement, this.#status, this.#statsPanel.element, this.#toolbar, this.#notice);
    this.#showConnection(false);
    this.showTries([]);
    this.showStats(false);
    this.showToolbar(false);
    this.showZoom(1);
  }

  showToolbar(shown: boolean): void {
    this.#toolbar.hidden = !shown;
  }

  showStats(shown: boolean): void {
    this.#statsPanel.shown = shown;
    this.#statsButton.setAttribute("aria-pressed", String(shown));
  }

  showFit(fit: Fit): void {
    const label = `Fit: ${fit === "none" ? "one to one" : fit}`;
    this.#fit.title = label;
    this.#fit.setAttribute("aria-label", label);
  }

  showZoom(zoom: number): void {
    this.#reset.hidden = this.#zoom.hidden = zoom === 1;
    this.#zoom.textContent = `${Math.round(100 * zoom)} %`;
  }

  /** What was tried to reach the hub, oldest first. */
  showTries(tries: Try[]): void {
    this.#tried.hidden = !tries.length;
    this.#list.replaceChildren(...tries.map(({ way, url, started, outcome }) => {
      const item = document.createElement("li");
      item.textContent = `${new Date(started).toLocaleTimeString()} ${[way, url].filter(Boolean).join(" ")}: ${outcome || "…"}`;
      return item;
    }));
  }

  /** What the user should know though it works; empty for nothing. */
  showRemark(text: string): void {
    this.#remark = text;
  }

  /** *hasPicture* is whether this connection has shown a frame. Returns the state in words, which are read aloud with *label*. */
  showState(state: State, message: string, hasPicture: boolean, label: string): string {
    const words = state === "live" ? (hasPicture ? this.#remark : "Waiting for the first frame…") : WORDS[state];
    this.#status.textContent = words;
    this.#status.hidden = !words || !!message;
    this.#message = message;
    this.#words.textContent = message || words || "Connected";
    this.#retry.hidden = state === "live" && !message;
    this.#notice.hidden = !message && !this.#triesShown;
    const announced = message || words || "live";
    // Written only when it changes: it is read aloud each time.
    if (this.#announcement.textContent !== `${label}: ${announced}`) this.#announcement.textContent = `${label}: ${announced}`;
    return announced;
  }

  updateStats(stats: ViewStats, size: string): void {
    this.#statsPanel.take(stats, size);
  }

  get #triesShown(): boolean {
    return this.#triesButton.getAttribute("aria-pressed") === "true";
  }

  #showConnection(shown: boolean): void {
    this.#triesButton.setAttribute("aria-pressed", String(shown));
    this.#tried.open = shown;
    this.#notice.hidden = !shown && !this.#message;
  }

  #add(icon: keyof typeof ICONS, label: string, action: () => void): HTMLButtonElement {
    const button = element("button", "rfb-button");
    button.type = "button";
    button.title = label;
    button.setAttribute("aria-label", label);
    button.append(drawing(ICONS[icon]));
    button.onclick = action;
    this.#toolbar.append(button);
    return button;
  }
}

/** An icon of one *path*. Not by innerHTML, which pages that require trusted types forbid. */
function drawing(path: string): SVGElement {
  const [svg, line] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag)) as [SVGElement, SVGElement];
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}
