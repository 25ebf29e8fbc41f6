// The anywidget: a view for every render of a model, and the traits that it follows.

import type { AnyModel, AnyWidget } from "@anywidget/types";
import type { Try } from "./diagnosis";
import { secretsOf, takeSecrets } from "./secrets";
import { surroundings } from "./surroundings";
import { RemoteFramebufferView } from "./view";
import type { Fit } from "./viewport";
import { type Target, waysTo } from "./ways";

export { RemoteFramebufferView };

export interface Traits {
  url: string;
  host: string;
  port: number;
  stream: string;
  hub_id: string;
  hub_key: string;
  token: string;
  base_path: string;
  kernel_base: string;
  image_only: boolean;
  main_thread_present: boolean;
  fit: Fit;
  background: string;
  height: number;
  show_toolbar: boolean;
  show_stats: boolean;
  state: string;
  last_error: string;
  diagnosis: Try[];
}

const PLACE = ["url", "host", "port", "stream", "hub_id", "base_path", "kernel_base", "main_thread_present", "image_only"] as const;
const SECRETS = ["token", "hub_key"] as const;

const widget: AnyWidget<Traits> = {
  initialize({ model }) {
    takeSecrets(model);
  },
  render({ model, el, signal }) {
    takeSecrets(model);
    let view = makeView(model, el);
    let ended = false;
    const listeners: [string, () => void][] = [];
    const follow = (names: readonly (keyof Traits)[], heed: () => void) => {
      for (const name of names) {
        model.on(`change:${name}`, heed);
        listeners.push([`change:${name}`, heed]);
      }
    };
    let [pending, moved] = [false, false];
    // Traits that change together come one after the other.
    const soon = () => {
      if (pending) return;
      pending = true;
      queueMicrotask(() => {
        [pending, moved] = [false, takeSecrets(model) || moved];
        if (ended || !moved) return;
        moved = false;
        view.dispose();
        view = makeView(model, el);
      });
    };
    follow(PLACE, () => {
      moved = true;
      soon();
    });
    // They change too when they are blanked.
    follow(SECRETS, soon);
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
    target: targetOf(model),
    fit: model.get("fit"),
    background: model.get("background"),
    height: model.get("height"),
    showToolbar: model.get("show_toolbar"),
    showStats: model.get("show_stats"),
    imageOnly: model.get("image_only"),
    mainThreadPresent: model.get("main_thread_present"),
    onState: (state, message) => {
      model.set("state", state);
      model.set("last_error", message);
      model.save_changes();
    },
    onTried: (tries) => {
      model.set("diagnosis", tries);
      model.save_changes();
    },
    onHeight: (height) => {
      model.set("height", height);
      model.save_changes();
    },
  });
}

async function targetOf(model: AnyModel<Traits>): Promise<Target> {
  const [url, host, port, stream] = [model.get("url"), model.get("host"), model.get("port"), model.get("stream")];
  const [hubId, basePath, kernelBase] = [model.get("hub_id"), model.get("base_path"), model.get("kernel_base")];
  const [page, secrets] = await Promise.all([surroundings(port), secretsOf(model)]);
  const ways = waysTo({ url, host, port, stream, hubId, basePath, kernelBase }, page);
  return { ways, stream, hubId, ...secrets };
}

export default widget;
