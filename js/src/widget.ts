// The anywidget: a view for every render of a model, and the traits that it follows.

import type { AnyModel, AnyWidget } from "@anywidget/types";
import { addressOf } from "./connection";
import { RemoteFramebufferView } from "./view";
import type { Fit } from "./viewport";

export { RemoteFramebufferView };

interface Traits {
  url: string;
  host: string;
  port: number;
  stream: string;
  token: string;
  main_thread_present: boolean;
  fit: Fit;
  background: string;
  height: number;
  show_toolbar: boolean;
  show_stats: boolean;
  state: string;
  last_error: string;
}

const NEW_CONNECTION: (keyof Traits)[] = ["url", "host", "port", "stream", "token", "main_thread_present"];

const widget: AnyWidget<Traits> = {
  render({ model, el, signal }) {
    let view = makeView(model, el);
    let ended = false;
    const listeners: [string, () => void][] = [];
    const follow = (names: (keyof Traits)[], heed: () => void) => {
      for (const name of names) {
        model.on(`change:${name}`, heed);
        listeners.push([`change:${name}`, heed]);
      }
    };
    let pending = false;
    follow(NEW_CONNECTION, () => {
      if (pending) return;
      pending = true;
      // Traits that change together come one after the other.
      queueMicrotask(() => {
        pending = false;
        if (ended) return;
        view.dispose();
        view = makeView(model, el);
      });
    });
    follow(["fit"], () => view.setFit(model.get("fit")));
    follow(["background"], () => view.setBackground(model.get("background")));
    follow(["height"], () => view.setHeight(model.get("height")));
    follow(["show_toolbar"], () => view.setToolbar(model.get("show_toolbar")));
    follow(["show_stats"], () => view.setStats(model.get("show_stats")));

    const end = () => {
      if (ended) return;
      ended = true;
      for (const [name, heed] of listeners) model.off(name as `change:${keyof Traits}`, heed);
      view.dispose();
    };
    signal?.addEventListener("abort", end);
    return end;
  },
};

function makeView(model: AnyModel<Traits>, el: HTMLElement): RemoteFramebufferView {
  return new RemoteFramebufferView(el, {
    url: addressOf({ url: model.get("url"), host: model.get("host"), port: model.get("port"), stream: model.get("stream") }),
    token: model.get("token"),
    fit: model.get("fit"),
    background: model.get("background"),
    height: model.get("height"),
    showToolbar: model.get("show_toolbar"),
    showStats: model.get("show_stats"),
    mainThreadPresent: model.get("main_thread_present"),
    onState: (state, message) => {
      model.set("state", state);
      model.set("last_error", message);
      model.save_changes();
    },
    onHeight: (height) => {
      model.set("height", height);
      model.save_changes();
    },
  });
}

export default widget;
