// Checked by tsc alone: the types that ship beside the bundle are those of its sources, and catch what a user gets wrong.

import { RemoteFramebufferView as Shipped, type ViewOptions } from "../../pdum_rfb_widget/static/widget";
import { RemoteFramebufferView as Source } from "../src/notebook/widget";
import type { ViewOptions as SourceOptions } from "../src/ui/options";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Without private parts. */
type Public<T> = Pick<T, keyof T>;

export const sameView: Same<Public<Shipped>, Public<Source>> = true;
export const sameOptions: Same<ViewOptions, Public<Omit<SourceOptions, "target">>> = true;

export function use(parent: HTMLElement): void {
  const view = new Shipped(parent, { url: "ws://localhost/s", token: "t", fit: "cover", onState: (state) => console.log(state === "live") });
  const stop: () => void = view.onMessage("a", (data: unknown) => console.log(data));
  stop();
  const sent: boolean = view.send("a", { x: 1 }, { latest: true });
  new Shipped(parent, { onEvent: (event) => console.log(event.type === "wheel" ? event.dx : event.timestamp) });
  void view.screenshot().then((blob) => console.log(sent, blob.size));
  // @ts-expect-error There is no such fit.
  view.setFit("crop");
  // @ts-expect-error There is no such option.
  new Shipped(parent, { adress: "ws://localhost/s" });
}
