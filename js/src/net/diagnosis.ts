// What was tried, how each ended, and what to tell the user of it. Pure functions.

import { type Candidate, type CandidateName, isLoopback, type Whereabouts, withoutSecrets } from "./candidates";
import { afterClose, backoff, sentence, type Verdict } from "./connection";
import { TRUSTED_NAME } from "./policy";

/** One attempt to reach the hub. */
export interface Try {
  way: CandidateName | "worker";
  /** Without any token. */
  url: string;
  /** Milliseconds since 1970. */
  started: number;
  /** Likewise; null while it goes on. */
  ended: number | null;
  /** How it ended, for people to read. */
  outcome: string;
}

/**
 * How an attempt ended. `unreachable`: no WebSocket came about. `blocked`: the browser won't have it. `forbidden`: the page's
 * policy won't, as long as the page is there. `silent`: it was open, and nobody answered. `unverified`: another hub did, or one that couldn't prove itself. `closed`: the other side closed it.
 */
export interface End {
  fault: "unreachable" | "blocked" | "forbidden" | "silent" | "unverified" | "closed";
  code: number;
  reason: string;
}

/**
 * What the same address answers to a plain request: `login`, it wants one; `unknown`, our route doesn't know the hub; `elsewhere`, the
 * hub is on another machine; `foreign`, the hub lets no page in by this page's name; `nothing`, there is no such route; `gone`, nobody
 * listens behind it; `stripped`, it is there and gets no WebSocket.
 */
export type Answer = "login" | "unknown" | "elsewhere" | "foreign" | "nothing" | "gone" | "stripped";

export interface Failure {
  candidate: Candidate;
  end: End;
  /** Null where it was not asked, or doesn't answer. */
  answer: Answer | null;
  status: number;
  /** The sentence with which our route answers. */
  body: string;
}

/** The meaning of an HTTP *status*, 0 for a redirect, and of its *body*, which our route and our hubs send as plain text. */
export function meaningOf(status: number, body: string): Answer {
  if (status === 404) return body.includes("hub") ? "unknown" : "nothing";
  if (status >= 500) return body.startsWith("the kernel runs on") ? "elsewhere" : "gone";
  // The hub itself, asked without a token.
  if (status === 401 && body.includes("this hub's")) return "stripped";
  if (status === 403 && body.startsWith("this hub does not know the name")) return "foreign";
  if (status === 0 || status === 401 || status === 403) return "login";
  return "stripped";
}

/** How it ended, in a few words. */
export function outcomeOf({ end, answer, status, body }: Failure): string {
  if (answer === "stripped") return `answers ${status}, but opens no WebSocket`;
  if (answer) return status ? `refused with ${status}${body && `: ${body}`}` : "refused: it wants a login";
  switch (end.fault) {
    case "unreachable":
      return "no connection";
    case "blocked":
    case "forbidden":
      return `not allowed here: ${end.reason}`;
    case "closed":
      return `closed with ${end.code}${end.reason && `: ${end.reason}`}`;
    default:
      return end.reason;
  }
}

/** What to tell the user when all candidates failed, for the *attempt*th time in a row; *seen* is whether there was a picture before. */
export function explain(failures: Failure[], where: Whereabouts, seen: boolean, attempt: number, random: number): Verdict {
  const again = (message: string): Verdict => ({ state: "reconnecting", message, retryIn: backoff(attempt, random) });
  const answered = (answer: Answer) => failures.find((failure) => failure.answer === answer);
  if (!failures.length) return { state: "failed", message: `${NO_CANDIDATE} ${forward(where)}`, retryIn: null };
  const closed = failures.find(({ end }) => end.code >= 4400 || end.code === 1001);
  if (closed) return afterClose(closed.end.code, closed.end.reason, attempt, random);
  if (failures.some(({ candidate, end }) => candidate.name === "colab" && ["unreachable", "silent", "closed"].includes(end.fault))) {
    return { state: "failed", message: COLAB, retryIn: null };
  }
  // These don't go away by themselves, so nothing is gained by waiting.
  const login = answered("login");
  if (login) return again(`The notebook's server refused this page (${login.status || "it wants a login"}). Log in again, in another tab.`);
  if (answered("foreign")) return again(`The hub does not know this page's server by that name. ${allow(location.origin)}`);
  const stripped = answered("stripped");
  if (stripped) return again(`${hostOf(stripped)} opens no WebSocket: it answered ${stripped.status}. ${STRIPPED}`);
  if (failures.some(({ end }) => end.fault === "unverified")) return again(`Another hub answers in its place. ${RESTARTED}`);
  const elsewhere = answered("elsewhere");
  if (elsewhere) return again(`${sentence(elsewhere.body)} ${forward(where)}`);
  const unknown = answered("unknown");
  if (unknown && !seen) return again(unknownHub(unknown.body, where));
  if (answered("nothing") && !seen && !answered("gone")) return again(failures[0]!.candidate.name === "url" ? WRONG_URL : NO_ROUTE);
  const silent = failures.find(({ end }) => end.fault === "silent");
  if (silent) return again(`${withoutSecrets(silent.candidate.url)} gives ${silent.end.reason}. ${SILENT}`);
  const tried = failures.find(({ end }) => !["blocked", "forbidden"].includes(end.fault));
  if (!tried) return again(`This page can't open ${withoutSecrets(failures[0]!.candidate.url)}: ${failures[0]!.end.reason}`);
  // And these are often a blink.
  if (attempt < 2) return again("");
  if (unknown || answered("gone")) return again(`The hub is gone. ${RESTARTED}`);
  return again(`Nothing answers at ${withoutSecrets(tried.candidate.url)}. ${adviceFor(tried.candidate, where, seen)}`);
}

/** What to tell in place of *message* on a page that is no notebook: it has no cell, and knows of no kernel. */
export function withoutCell(message: string): string {
  return message
    .replace("from an earlier kernel: run the cell again", "from an earlier run of the program: open the page anew")
    .replace("Run its cell again", "Serve it again")
    .replace(/run the cell again/gi, "start it again, and open the page anew")
    .replaceAll("kernel", "program")
    .replaceAll("notebook", "page");
}

/** What to tell of a page that runs another version of the viewer than its hub expects; empty where they agree. */
export function versionNote(viewer: string, hub: string | undefined): string {
  if (!hub || hub === viewer) return "";
  return `The page runs version ${viewer} of the viewer, and the hub ${hub}: save the notebook and reload the page.`;
}

export const LOCAL_FORBIDDEN =
  "the browser keeps it from this computer (local network access). Allow that in the settings of this site, by the symbol left of its " +
  "address, and press Try again.";
const ON_THIS_THREAD = "decoding on the page's own thread, which works and may be slower.";
const TO_ALLOW_IT = "To allow it, have the page's server add";
export const WORKER_MISSING = `did not start; ${ON_THIS_THREAD}`;
export const WORKER_FORBIDDEN =
  `not allowed by this page's policy; ${ON_THIS_THREAD} ${TO_ALLOW_IT} 'worker-src blob:' to its Content-Security-Policy`;
export const WORKER_UNTRUSTED =
  `not allowed by this page's policy, which requires trusted types; ${ON_THIS_THREAD} ${TO_ALLOW_IT} ${TRUSTED_NAME} and ` +
  "'allow-duplicates' to the trusted-types of its Content-Security-Policy";

/** Why an address is not opened that *directive* of the page's policy doesn't list. */
export function policyForbids(directive: string, url: string): string {
  const host = withoutSecrets(url).split("/").slice(0, 3).join("/");
  return `this page's policy doesn't allow it. Have the page's server add ${host} to the ${directive} of its Content-Security-Policy.`;
}
export const MIXED_FORBIDDEN =
  "this page came by https, and the browser opens no ws:// from there. Pass a wss:// address as url= to widget(), or run 'pip install " +
  "pdum-rfb-widget' where the page's server runs, and restart it: then the way goes through it.";
export const KERNEL_SILENT =
  "Waiting for the kernel to say where the picture is: it is busy, or there is none, as in an exported page. If it has ended, run the cell again.";

const COLAB =
  "Colab's proxy carries no WebSockets, so no live picture comes here. display.snapshot(), as the last line of a cell, shows the newest one.";
const RESTARTED = "The kernel was restarted or has ended: run the cell again.";
const SILENT = "The kernel's process may be too busy to answer, or a proxy on the way is stuck. The picture comes by itself.";
const STRIPPED =
  "A proxy between this page and the kernel doesn't pass WebSockets on: have it forward the headers Upgrade and Connection.";
const WRONG_URL = "There is nothing at the address that was given as url (404). Check it, and run the cell again.";
const NO_ROUTE =
  "The notebook's server has no way to the kernel: its extension pdum_rfb_widget is not enabled, and jupyter-server-proxy is missing. " +
  "Run 'pip install pdum-rfb-widget' where the server runs, and restart the server.";
const FOREIGN =
  "That is this computer, but the notebook comes from another one: forward the port, or pass url= to widget(). If the browser asks " +
  "whether this page may reach it, allow that.";
const IS_IT_RUNNING = "Is the kernel running? If it was restarted, run the cell again.";
const NO_CANDIDATE = "This page knows no way to the kernel.";

/** How users make the hub reachable themselves. */
function forward({ port, machine, stream }: Whereabouts): string {
  const still = "display.snapshot() shows the newest picture without any way.";
  if (!port) return `Serve it with a port, without tcp=False, forward that to this computer, and pass its address as url= to widget(). ${still}`;
  const example = `url='ws://127.0.0.1:${port}/${encodeURIComponent(stream)}'`;
  const named = `Forward port ${port}${machine && ` of ${machine}`} to this computer, and pass its address here to widget(), as`;
  return `${named} ${example}. ${still}`;
}

/** Of a server that doesn't know the hub, and may name its machine in *body*. */
function unknownHub(body: string, where: Whereabouts): string {
  const { machine } = where;
  const server = /^no such hub on ([^\s:]+)/.exec(body)?.[1];
  if (server && machine && server !== machine) {
    return `The kernel runs on ${machine}, and this page's server on ${server}, which doesn't reach it. ${forward(where)}`;
  }
  const elsewhere = `If it runs on another machine or in another container than the server${machine && ` (it says ${machine})`}`;
  const restarted = "If the kernel was restarted, run the cell again.";
  const advice = forward(where);
  return `The notebook's server doesn't know this kernel's hub. ${restarted} ${elsewhere}, ${advice[0]!.toLowerCase()}${advice.slice(1)}`;
}

function allow(origin: string): string {
  const extension = "enable the extension pdum_rfb_widget of that server: run 'pip install pdum-rfb-widget' there, and restart it";
  return `Pass origins=['${origin}'] to serve(), or ${extension}.`;
}

function hostOf({ candidate }: Failure): string {
  return new URL(candidate.url).host;
}

function adviceFor({ name, url }: Candidate, { local, machine, port }: Whereabouts, seen: boolean): string {
  if (isLoopback(new URL(url).hostname) && !local) return FOREIGN;
  if (seen) return RESTARTED;
  if (name !== "direct") return IS_IT_RUNNING;
  const forwarded = `forward its port ${port} to this computer (in VS Code: the Ports view), and the picture comes by itself`;
  const another = "Where the port gets another number here, pass that as port= to widget().";
  return `${IS_IT_RUNNING} If it runs on another machine${machine && ` (it says ${machine})`}, ${forwarded}. ${another}`;
}
