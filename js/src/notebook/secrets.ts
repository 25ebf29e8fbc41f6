// The token and the hub's key come with the widget's first state, since a busy kernel answers no question, and don't stay
// there: notebooks save their models. Who comes later finds them with the page, or asks the kernel.

import type { AnyModel } from "@anywidget/types";
import { type Secrets, store } from "../net/store";
import type { Traits } from "./traits";

/** Move what *model* holds of them to the page, and blank it; whether it was new. */
export function takeSecrets(model: AnyModel<Traits>): boolean {
  const key = keyOf(model);
  const old = store.secrets.get(key);
  const fresh = { token: model.get("token") || old?.token || "", hubKey: model.get("hub_key") || old?.hubKey || "" };
  // Not saved: in marimo that would run cells. The kernel blanks what else there is once it hears of the page.
  if (model.get("token")) model.set("token", "");
  if (model.get("hub_key")) model.set("hub_key", "");
  if (fresh.token === (old?.token ?? "") && fresh.hubKey === (old?.hubKey ?? "")) return false;
  store.secrets.set(key, fresh);
  return true;
}

/** Those of the model's hub. Waits for the kernel where the page doesn't have them; only our own hubs have any for sure. */
export async function secretsOf(model: AnyModel<Traits>): Promise<Secrets> {
  const key = keyOf(model);
  const known = store.secrets.get(key);
  if (known || !model.get("hub_id")) return known ?? { token: "", hubKey: "" };
  return await new Promise((resolve) => {
    const take = (message: unknown) => {
      const { type, token, hub_key } = message as { type?: string; token?: string; hub_key?: string };
      if (type !== "where") return;
      model.off("msg:custom", take);
      const secrets = { token: token ?? "", hubKey: hub_key ?? "" };
      store.secrets.set(key, secrets);
      resolve(secrets);
    };
    model.on("msg:custom", take);
    send(model, { type: "where" });
  });
}

export function send(model: AnyModel<Traits>, message: object): void {
  toKernel(() => model.send(message));
}

/** Run *call*, which sends something to the kernel. It may be gone: in marimo that is a promise broken, in JupyterLab an error. */
export function toKernel(call: () => unknown): void {
  try {
    const sent = call();
    if (sent instanceof Promise) sent.catch(() => {});
  } catch {
    // Nobody is left to hear it.
  }
}

function keyOf(model: AnyModel<Traits>): string {
  return model.get("hub_id") || model.get("url") || `${model.get("host")}:${model.get("port")}`;
}
