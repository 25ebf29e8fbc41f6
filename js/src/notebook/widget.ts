// The anywidget: a view for every render of a model, and the traits that it follows.

import type { AnyModel, AnyWidget } from "@anywidget/types";
import { candidatesFor, type Target } from "../net/candidates";
import { RemoteFramebufferView } from "../ui/view";
import { pageEnvironment } from "./page_environment";
import { hidePoster, standIn } from "./poster";
import { secretsOf, send, takeSecrets, toKernel } from "./secrets";
import type { Traits } from "./traits";

export { RemoteFramebufferView };

const PLACE = ["url", "host", "port", "stream", "hub_id", "base_path", "kernel_base", "main_thread_present", "image_only"] as const;
const SECRETS = ["token", "hub_key"] as const;
const FOLLOWED = [
  ["fit", "setFit"],
  ["background", "setBackground"],
  ["height", "setHeight"],
  ["label", "setLabel"],
  ["touch", "setTouch"],
  ["pinch", "setPinch"],
  ["on_screen_keyboard", "setOnScreenKeyboard"],
  ["show_toolbar", "setToolbar"],
  ["show_stats", "setStats"],
] as const;

const widget: AnyWidget<Traits> = {
  initialize({ model }) {
    takeSecrets(model);
  },
  render({ model, el, signal }) {
    takeSecrets(model);
    const removeStandIn = standIn(el, model.get("last_picture"), model.get("height"));
    let showPoster = () => {};
    const open = () =>
      makeView(model, el, () => {
        showPoster();
        showPoster = hidePoster(model.get("poster"), el);
        removeStandIn();
      });
    let view = open();
    let ended = false;
    const { follow, stop } = follower(model);
    let moved = false;
    // Traits that change together come one after the other.
    const soon = () => {
      queueMicrotask(() => {
        moved = takeSecrets(model) || moved;
        if (ended || !moved) return;
        moved = false;
        view.dispose();
        showPoster();
        view = open();
      });
    };
    follow(PLACE, () => {
      moved = true;
      soon();
    });
    // They change too when they are blanked.
    follow(SECRETS, soon);
    for (const [name, method] of FOLLOWED) follow([name], () => view[method](model.get(name) as never));

    const end = () => {
      if (ended) return;
      ended = true;
      stop();
      view.dispose();
      showPoster();
      removeStandIn();
    };
    signal?.addEventListener("abort", end);
    return end;
  },
};

/** Calls listeners when traits of *model* change, until it is stopped. */
function follower(model: AnyModel<Traits>) {
  const listeners: [`change:${keyof Traits}`, () => void][] = [];
  return {
    follow(names: readonly (keyof Traits)[], listener: () => void): void {
      for (const name of names) {
        model.on(`change:${name}`, listener);
        listeners.push([`change:${name}`, listener]);
      }
    },
    stop(): void {
      for (const [name, listener] of listeners) model.off(name, listener);
    },
  };
}

function makeView(model: AnyModel<Traits>, el: HTMLElement, onPicture: () => void): RemoteFramebufferView {
  // Status goes as messages: in marimo whatever a page saves of its traits runs the cells that depend on the widget. They
  // are numbered, since JupyterLab sends the first to the kernel's main shell, where it may wait behind a cell that runs, and
  // later ones to a subshell.
  const sender = crypto.getRandomValues(new Uint32Array(1))[0];
  let number = 0;
  const sendStatus = (status: Partial<Traits>) => send(model, { type: "status", sender, number: ++number, ...status });
  const save = <K extends keyof Traits>(name: K, value: Traits[K]) => {
    model.set(name, value);
    toKernel(() => model.save_changes());
  };
  return new RemoteFramebufferView(el, {
    target: targetOf(model),
    fit: model.get("fit"),
    background: model.get("background"),
    height: model.get("height"),
    label: model.get("label"),
    shape: model.get("_shape"),
    touch: model.get("touch"),
    pinch: model.get("pinch"),
    onScreenKeyboard: model.get("on_screen_keyboard"),
    showToolbar: model.get("show_toolbar"),
    showStats: model.get("show_stats"),
    imageOnly: model.get("image_only"),
    mainThreadPresent: model.get("main_thread_present"),
    onState: (state, message) => sendStatus({ state, last_error: message }),
    onTried: (diagnosis) => sendStatus({ diagnosis }),
    onHeight: (height) => sendStatus({ height }),
    onPicture,
    onEvent: (event) => {
      if (model.get("sync_events").includes(event.type)) save("last_event", event);
    },
    onFigures: (stats) => {
      if (model.get("sync_stats")) save("stats", stats);
    },
  });
}

async function targetOf(model: AnyModel<Traits>): Promise<Target> {
  const [url, host, port, stream] = [model.get("url"), model.get("host"), model.get("port"), model.get("stream")];
  const [hubId, basePath, kernelBase] = [model.get("hub_id"), model.get("base_path"), model.get("kernel_base")];
  const [page, secrets] = await Promise.all([pageEnvironment(port), secretsOf(model)]);
  const candidates = candidatesFor({ url, host, port, stream, hubId, basePath, kernelBase }, page);
  return { candidates, stream, port, machine: model.get("machine") ?? "", local: page.local, hubId, ...secrets, cell: true };
}

export default widget;
