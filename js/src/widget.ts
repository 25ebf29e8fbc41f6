// The anywidget: a view for every render of a model, and the traits that it follows.

import type { AnyModel, AnyWidget } from "@anywidget/types";
import { addressOf } from "./connection";
import { hidePoster, standIn } from "./poster";
import type { InputEvent } from "./protocol";
import { send, withToken } from "./secrets";
import { RemoteFramebufferView } from "./view";
import type { Fit } from "./viewport";
import type { Figures } from "./worker/messages";

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
  sync_events: string[];
  last_event: InputEvent;
  sync_stats: boolean;
  stats: Figures;
  poster: string;
  last_picture: string;
}

const NEW_CONNECTION: (keyof Traits)[] = ["url", "host", "port", "stream", "token", "main_thread_present"];

const widget: AnyWidget<Traits> = {
  render({ model, el, signal }) {
    let view: RemoteFramebufferView | null = null;
    let stopWaiting = () => {};
    let showPoster = () => {};
    const removeStandIn = standIn(el, model.get("last_picture"), model.get("height"));
    let ended = false;
    const listeners: [string, () => void][] = [];
    const follow = (names: (keyof Traits)[], heed: () => void) => {
      for (const name of names) {
        model.on(`change:${name}`, heed);
        listeners.push([`change:${name}`, heed]);
      }
    };
    const close = () => {
      stopWaiting();
      view?.dispose();
      showPoster();
      view = null;
    };
    const open = () => {
      close();
      stopWaiting = withToken(model, (token) => {
        view = makeView(model, el, token, () => {
          showPoster();
          showPoster = hidePoster(model.get("poster"));
          removeStandIn();
        });
      });
    };
    open();
    let pending = false;
    for (const name of NEW_CONNECTION) {
      follow([name], () => {
        // A token that is taken away is no other one.
        if (pending || (name === "token" && !model.get("token"))) return;
        pending = true;
        // Traits that change together come one after the other.
        queueMicrotask(() => {
          pending = false;
          if (!ended) open();
        });
      });
    }
    follow(["fit"], () => view?.setFit(model.get("fit")));
    follow(["background"], () => view?.setBackground(model.get("background")));
    follow(["height"], () => view?.setHeight(model.get("height")));
    follow(["show_toolbar"], () => view?.setToolbar(model.get("show_toolbar")));
    follow(["show_stats"], () => view?.setStats(model.get("show_stats")));

    const end = () => {
      if (ended) return;
      ended = true;
      for (const [name, heed] of listeners) model.off(name as `change:${keyof Traits}`, heed);
      close();
      removeStandIn();
    };
    signal?.addEventListener("abort", end);
    return end;
  },
};

function makeView(model: AnyModel<Traits>, el: HTMLElement, token: string, onPicture: () => void): RemoteFramebufferView {
  // Status goes as messages: in marimo whatever a page saves of its traits runs the cells that depend on the widget.
  const tell = (status: Partial<Traits>) => send(model, { type: "status", ...status });
  const save = <K extends keyof Traits>(name: K, value: Traits[K]) => {
    model.set(name, value);
    model.save_changes();
  };
  return new RemoteFramebufferView(el, {
    url: addressOf({ url: model.get("url"), host: model.get("host"), port: model.get("port"), stream: model.get("stream") }),
    token,
    fit: model.get("fit"),
    background: model.get("background"),
    height: model.get("height"),
    showToolbar: model.get("show_toolbar"),
    showStats: model.get("show_stats"),
    mainThreadPresent: model.get("main_thread_present"),
    onState: (state, message) => tell({ state, last_error: message }),
    onHeight: (height) => tell({ height }),
    onPicture,
    onEvent: (event) => {
      if (model.get("sync_events").includes(event.type)) save("last_event", event);
    },
    onFigures: (figures) => {
      if (model.get("sync_stats")) save("stats", figures);
    },
  });
}

export default widget;
