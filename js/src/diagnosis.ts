// What was tried, how each ended, and what to tell the user of it. Pure functions.

import { afterClose, backoff, sentence, type Verdict } from "./connection";
import { isLoopback, type Way, type WayName, withoutSecrets } from "./ways";

/** One attempt to reach the hub, for people to read. */
export interface Try {
  way: WayName | "worker";
  /** Without any token. */
  url: string;
  /** Milliseconds since 1970. */
  started: number;
  /** Likewise; null while it goes on. */
  ended: number | null;
  outcome: string;
}

/**
 * How an attempt ended. `unreachable`: no WebSocket came about. `blocked`: the browser won't have it. `silent`: it was open,
 * and nobody answered. `stranger`: another hub did, or one that couldn't prove itself. `closed`: the other side closed it.
 */
export interface End {
  fault: "unreachable" | "blocked" | "silent" | "stranger" | "closed";
  code: number;
  reason: string;
}

/**
 * What the same address says to a plain request: `login`, it wants one; `unknown`, our route doesn't know the hub; `elsewhere`, the
 * hub is on another machine; `foreign`, the hub lets no page in by this page's name; `nothing`, there is no such route; `gone`, nobody
 * listens behind it; `stripped`, it is there and gets no WebSocket.
 */
export type Answer = "login" | "unknown" | "elsewhere" | "foreign" | "nothing" | "gone" | "stripped";

export interface Failure {
  way: Way;
  end: End;
  /** Null where it was not asked, or doesn't answer. */
  answer: Answer | null;
  status: number;
  /** The sentence that our route answers with. */
  said: string;
}

/** The meaning of an HTTP *status*, 0 for a redirect, and of what was *said*: our route speaks in plain text, as do our hubs. */
export function meaningOf(status: number, said: string): Answer {
  if (status === 404) return said.includes("hub") ? "unknown" : "nothing";
  if (status >= 500) return said.startsWith("the kernel runs on") ? "elsewhere" : "gone";
  // The hub itself, asked without a token.
  if (status === 401 && said.includes("this hub's")) return "stripped";
  if (status === 403 && said.startsWith("this hub does not know the name")) return "foreign";
  if (status === 0 || status === 401 || status === 403) return "login";
  return "stripped";
}

/** How it ended, in a few words. */
export function outcomeOf({ end, answer, status, said }: Failure): string {
  if (answer === "stripped") return `answers ${status}, but opens no WebSocket`;
  if (answer) return status ? `refused with ${status}${said && `: ${said}`}` : "refused: it wants a login";
  switch (end.fault) {
    case "unreachable":
      return "no connection";
    case "blocked":
      return `not allowed here: ${end.reason}`;
    case "closed":
      return `closed with ${end.code}${end.reason && `: ${end.reason}`}`;
    default:
      return end.reason;
  }
}

/** What to tell when all ways failed, for the *attempt*th time in a row; *seen* is whether there was a picture before. */
export function explain(failures: Failure[], seen: boolean, attempt: number, random: number): Verdict {
  const again = (message: string): Verdict => ({ state: "reconnecting", message, retryIn: backoff(attempt, random) });
  const answered = (answer: Answer) => failures.find((failure) => failure.answer === answer);
  if (!failures.length) return { state: "failed", message: NO_WAY, retryIn: null };
  const spoken = failures.find(({ end }) => end.code >= 4400 || end.code === 1001);
  if (spoken) return afterClose(spoken.end.code, spoken.end.reason, attempt, random);
  // These don't go away by themselves, so nothing is gained by waiting.
  const login = answered("login");
  if (login) return again(`The notebook's server refused this page (${login.status || "it wants a login"}). Log in again, in another tab.`);
  if (answered("foreign")) return again(`The hub does not know this page's server by that name. ${allow(location.origin)}`);
  const stripped = answered("stripped");
  if (stripped) return again(`${hostOf(stripped)} opens no WebSocket: it answered ${stripped.status}. ${STRIPPED}`);
  if (failures.some(({ end }) => end.fault === "stranger")) return again(`Another hub answers in its place. ${RESTARTED}`);
  const elsewhere = answered("elsewhere");
  if (elsewhere) return again(`${sentence(elsewhere.said)} ${FORWARD}`);
  if (answered("unknown") && !seen) return again(UNKNOWN);
  if (answered("nothing") && !seen && !answered("gone")) return again(failures[0]!.way.name === "url" ? WRONG_URL : NO_ROUTE);
  const tried = failures.find(({ end }) => end.fault !== "blocked");
  if (!tried) return again(`This page can't open ${withoutSecrets(failures[0]!.way.url)}: ${failures[0]!.end.reason}`);
  // And these are often a blink.
  if (attempt < 2) return again("");
  if (answered("unknown") || answered("gone")) return again(`The hub is gone. ${RESTARTED}`);
  const first = withoutSecrets(tried.way.url);
  return again(`Nothing answers at ${first}. ${adviceFor(first, seen)}`);
}

/** What to tell of a page that runs another version of the viewer than its hub expects; empty where they agree. */
export function versionNote(viewer: string, hub: string | undefined): string {
  if (!hub || hub === viewer) return "";
  return `The page runs version ${viewer} of the viewer, and the hub ${hub}: save the notebook and reload the page.`;
}

export const LOCAL_FORBIDDEN =
  "the browser keeps it from this computer (local network access). Allow that in the settings of this site, by the symbol left of its " +
  "address, and press Try again.";
export const WORKER_FORBIDDEN =
  "not allowed by this page's policy; decoding on the page's own thread, which works and may be slower. To allow it, have the page's " +
  "server add 'worker-src blob:' to its Content-Security-Policy";
export const KERNEL_SILENT = "Waiting for the kernel to say where the picture is: it is busy. If it has ended, run the cell again.";

const RESTARTED = "The kernel was restarted or has ended: run the cell again.";
const STRIPPED =
  "A proxy between this page and the kernel doesn't pass WebSockets on: have it forward the headers Upgrade and Connection.";
const WRONG_URL = "There is nothing at the address that was given as url (404). Check it, and run the cell again.";
const NO_ROUTE =
  "The notebook's server has no way to the kernel: its extension pdum_rfb_widget is not enabled, and jupyter-server-proxy is missing. " +
  "Run 'pip install pdum-rfb-widget' where the server runs, and restart the server.";
const FORWARD = "Forward the hub's port, and pass its address as url= to widget().";
const UNKNOWN =
  "The notebook's server doesn't know this kernel's hub. If the kernel was restarted, run the cell again. If it runs on another machine " +
  "than the server, forward the hub's port, and pass its address as url= to widget().";
const FOREIGN =
  "That is this computer, but the notebook comes from another one: forward the port, or pass url= to widget(). If the browser asks " +
  "whether this page may reach it, allow that.";
const NO_WAY = `This page knows no way to the kernel. ${FORWARD}`;

function allow(origin: string): string {
  const extension = "enable the extension pdum_rfb_widget of that server: run 'pip install pdum-rfb-widget' there, and restart it";
  return `Pass origins=['${origin}'] to serve(), or ${extension}.`;
}

function hostOf({ way }: Failure): string {
  return new URL(way.url).host;
}

function adviceFor(address: string, seen: boolean): string {
  const local = isLoopback(new URL(address).hostname);
  if (!local || isLoopback(new URL(location.origin).hostname)) {
    return seen ? RESTARTED : "Is the kernel running? If it was restarted, run the cell again.";
  }
  return FOREIGN;
}
