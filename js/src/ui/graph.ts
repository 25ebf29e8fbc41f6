// A value over the last half minute, and what it should be, as two lines.

/** Seconds across. */
const SPAN = 30;
/** Seconds between two values from which they are not joined: nothing came meanwhile. */
const GAP = 2.5;
const HEIGHT = 20;
const HEADROOM = 1.15;

export interface Sample {
  /** In seconds. */
  at: number;
  value: number;
  /** 0 for none. */
  target: number;
}

export class Graph {
  readonly element = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  #samples: Sample[] = [];
  #lines = { area: this.#add("rfb-area"), target: this.#add("rfb-aim"), value: this.#add("rfb-line") };

  constructor() {
    this.element.setAttribute("class", "rfb-graph");
    this.element.setAttribute("viewBox", `0 0 ${SPAN} ${HEIGHT}`);
    this.element.setAttribute("preserveAspectRatio", "none");
    this.element.setAttribute("aria-hidden", "true");
  }

  add(at: number, value: number, target: number): void {
    this.#samples = [...this.#samples.filter((sample) => sample.at > at - SPAN), { at, value, target }];
  }

  draw(): void {
    const { value, area, target } = paths(this.#samples);
    this.#lines.value.setAttribute("d", value);
    this.#lines.area.setAttribute("d", area);
    this.#lines.target.setAttribute("d", target);
  }

  #add(name: string): SVGPathElement {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", name);
    this.element.append(path);
    return path;
  }
}

/** The paths of SVG through *samples*, of which the last stands at the right; the highest stands a little below the top. */
export function paths(samples: Sample[]): { value: string; area: string; target: string } {
  const end = samples.at(-1)?.at ?? 0;
  const top = HEADROOM * Math.max(...samples.map(({ value, target }) => Math.max(value, target)), 1e-9);
  const x = ({ at }: Sample) => round(SPAN - (end - at));
  const y = (value: number) => round(HEIGHT * (1 - value / top));
  const runs = inRuns(samples);
  const aimed = runs.flatMap((run) => inRuns(run.filter(({ target }) => target > 0)));
  const line = (run: Sample[], of: (sample: Sample) => number) =>
    "M" + run.map((sample) => `${x(sample)} ${y(of(sample))}`).join("L");
  const value = runs.map((run) => line(run, (sample) => sample.value));
  return {
    value: value.join(""),
    area: runs.map((run, n) => `${value[n]}V${HEIGHT}H${x(run[0]!)}Z`).join(""),
    target: aimed.map((run) => line(run, (sample) => sample.target)).join(""),
  };
}

/** Parted where nothing came for a while. */
function inRuns(samples: Sample[]): Sample[][] {
  const runs: Sample[][] = [];
  let last = -Infinity;
  for (const sample of samples) {
    if (sample.at - last > GAP) runs.push([]);
    runs.at(-1)!.push(sample);
    last = sample.at;
  }
  return runs;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
