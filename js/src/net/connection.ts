// What the end of a connection to the hub means, and when to come again. Pure functions.

/** Of a view's connection; `reconnecting` and `closed` go on by themselves, `failed` waits for the user. */
export type State = "connecting" | "live" | "reconnecting" | "closed" | "failed";

const LOST = "Something on the way, as a proxy with a time limit, may cut it: Connection in the toolbar lists how each attempt ended.";

/** What to tell the user after a connection ended, and when to try again; null leaves that to the user. */
export interface Verdict {
  state: State;
  message: string;
  retryIn: number | null;
}

/** Milliseconds before attempt number *attempt* (from 0): doubling to 5 s, spread so that viewers don't come at once. */
export function backoff(attempt: number, random: number): number {
  return Math.min(5000, 250 * 2 ** attempt) * (0.7 + 0.6 * random);
}

/** The verdict on a connection that ended with *code* after *attempt* attempts in a row without success. */
export function afterClose(code: number, reason: string, attempt: number, random: number): Verdict {
  const again = (state: State, message: string): Verdict => ({ state, message, retryIn: backoff(attempt, random) });
  const final = (message: string): Verdict => ({ state: "failed", message, retryIn: null });
  switch (code) {
    case 1001:
      return { state: "closed", message: sentence(reason || "The display was closed"), retryIn: 2000 + 3000 * random };
    case 4401:
      return final(refused(reason));
    case 4403:
      return final(`${sentence(reason || "This page may not open the stream")} ${toAllow(reason)}`);
    case 4404:
      return { state: "closed", message: `${sentence(reason)} Run its cell again.`, retryIn: 2000 + 3000 * random };
    case 4406:
      return final(`This browser can't show the stream: ${reason}.`);
  }
  if (code >= 4400) return again("reconnecting", `The hub closed the connection: ${sentence(reason)}`);
  return again("reconnecting", attempt < 2 ? "" : `The connection is lost again and again. ${LOST}`);
}

/** *text* with a capital and a full stop. */
export function sentence(text: string): string {
  return text ? text[0]!.toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".") : "";
}

function refused(reason: string): string {
  if (reason.includes("authenticator")) return `${sentence(reason)} Pass a token that it accepts as token= to widget().`;
  if (reason.includes("changed")) return `${sentence(reason)} Run the cell again.`;
  return "The hub refused the token. It is from an earlier kernel: run the cell again.";
}

/** *reason* names the page's origin. */
function toAllow(reason: string): string {
  const origin = /pages from (\S+)/.exec(reason)?.[1] ?? "…";
  if (origin !== "null") return `Pass origins=['${origin}'] to serve() to allow it.`;
  return (
    "This one is in a frame with a sandbox, or a file: it has no origin that could be allowed. Add allow-same-origin to the frame's " +
    "sandbox attribute, or open the page from a web server."
  );
}
