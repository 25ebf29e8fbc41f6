// The hub's token: taken out of the model, which may be saved to a file, and asked for where another view has taken it.

import type { AnyModel } from "@anywidget/types";

interface Traits {
  host: string;
  port: number;
  token: string;
}

/** By hub, of this page: every view of a model is given another object for it. */
const known = new Map<string, string>();

/** Call *use* with the token, at once where it is known; what this returns stops waiting for the kernel's answer. */
export function withToken(model: AnyModel<Traits>, use: (token: string) => void): () => void {
  const hub = `${model.get("host")}:${model.get("port")}`;
  const given = model.get("token");
  if (given) {
    known.set(hub, given);
    // Without `save_changes`: the kernel makes blank by itself what else there is, and in marimo that would run cells.
    model.set("token", "");
  }
  const token = known.get(hub);
  if (token) {
    use(token);
    return () => {};
  }
  const told = (message: { type?: string; token?: string }) => {
    if (message?.type !== "where") return;
    model.off("msg:custom", told);
    known.set(hub, message.token ?? "");
    use(message.token ?? "");
  };
  model.on("msg:custom", told);
  send(model, { type: "where" });
  return () => model.off("msg:custom", told);
}

/** A message to the kernel, which may be gone: in marimo that is a promise broken. */
export function send<T extends object>(model: AnyModel<T>, message: object): void {
  const sent: unknown = model.send(message);
  if (sent instanceof Promise) sent.catch(() => {});
}
