// The widget's traits, as the kernel's half has them.

import type { Pinch, Touch } from "../input/host";
import type { Fit } from "../input/viewport";
import type { InputEvent } from "../input_events";
import type { Try } from "../net/diagnosis";
import type { Height } from "../ui/box";
import type { ViewStats } from "../worker/messages";

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
  machine: string;
  image_only: boolean;
  main_thread_present: boolean;
  fit: Fit;
  background: string;
  height: Height;
  label: string;
  _shape: [number, number] | [];
  touch: Touch;
  pinch: Pinch;
  on_screen_keyboard: boolean;
  show_toolbar: boolean;
  show_stats: boolean;
  state: string;
  last_error: string;
  diagnosis: Try[];
  sync_events: string[];
  last_event: InputEvent;
  sync_stats: boolean;
  stats: ViewStats;
  poster: string;
  last_picture: string;
}
