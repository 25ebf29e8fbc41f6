// What the page knows of itself, from which the candidates are made.

import { isLoopback, type PageEnvironment } from "../net/candidates";
import { store } from "../net/store";

interface Colab {
  colab?: { kernel?: { proxyPort?(port: number, options: { cache: boolean }): Promise<string> } };
}

/** The page's facts; of Colab's proxy where the hub's *port* is, which only its own page can ask. */
export async function pageEnvironment(port: number): Promise<PageEnvironment> {
  const config = jupyterConfig();
  const { dataset } = document.body;
  const web = /^https?:/.test(location.origin);
  return {
    origin: web ? location.origin : "",
    href: location.href,
    local: isLoopback(location.hostname) || location.protocol === "vscode-webview:",
    bases: [
      text(config.baseUrl),
      // Voila adds a part of its own to the base of its server.
      (dataset.baseUrl ?? "").replace(/voila\/$/, ""),
      ...("__marimo__WIDGET_REGISTRY" in window ? marimoBases() : []),
    ].filter(Boolean),
    token: new URLSearchParams(location.search).get("token") || text(config.token) || (dataset.jupyterApiToken ?? ""),
    colab: await colabProxy(port),
    last: store.candidate,
  };
}

/** Of JupyterLab, Notebook 7 and Voila; where marimo stands in a frame of JupyterLab's, of the page around it. */
function jupyterConfig(): Record<string, unknown> {
  for (const frame of [window, window.parent]) {
    try {
      const { textContent } = frame.document.getElementById("jupyter-config-data")!;
      return JSON.parse(textContent!) as Record<string, unknown>;
    } catch {
      // There is none, or the page around is another's.
    }
  }
  return {};
}

/** marimo's own base, and the one above, which is that of Jupyter where marimo runs inside. */
function marimoBases(): string[] {
  const base = new URL(".", document.baseURI);
  return [base.pathname, new URL("..", base).pathname];
}

/** Milliseconds that Colab has to say where its proxy is. */
const COLAB_MS = 3000;

async function colabProxy(port: number): Promise<string> {
  const proxyPort = (globalThis as { google?: Colab }).google?.colab?.kernel?.proxyPort;
  if (!port || !proxyPort) return "";
  const late = new Promise<string>((done) => setTimeout(done, COLAB_MS, ""));
  return await Promise.race([proxyPort(port, { cache: true }).catch(() => ""), late]);
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
