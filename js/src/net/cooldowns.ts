// How often ways that a server has refused are asked again: each question is a line in its log, and most refusals are for good.

import type { Way } from "./candidates";
import type { Failure } from "./diagnosis";

const FIRST_REST_MS = 2000;
/** 2 s, 4 s, and so on: half an hour in all. After that only the user, or a page that comes back, asks. */
const MOST_REFUSALS = 10;
/** Of a server that says that it is away. */
const LONGEST_ABSENCE_MS = 30_000;

interface Rest {
  failure: Failure;
  refusals: number;
  until: number;
}

/** The caller tells the time, in milliseconds. */
export class Patience {
  #rests = new Map<string, Rest>();

  /** Those of *ways* that are not to be left alone yet. */
  due(ways: Way[], now: number): Way[] {
    return ways.filter(({ url }) => (this.#rests.get(url)?.until ?? 0) <= now);
  }

  /** Remember how ways have failed. Returns that, and how those failed which were not asked this time. */
  heed(failures: Failure[], now: number): Failure[] {
    const asked = new Set(failures.map(({ way }) => way.url));
    const resting = [...this.#rests.values()].map(({ failure }) => failure).filter(({ way }) => !asked.has(way.url));
    for (const failure of failures) {
      const { url } = failure.way;
      const refusals = (this.#rests.get(url)?.refusals ?? 0) + 1;
      const rest = restAfter(failure, refusals);
      if (rest) this.#rests.set(url, { failure, refusals, until: now + rest });
      else this.#rests.delete(url);
    }
    return [...failures, ...resting];
  }

  /** Milliseconds until one of *ways* may be asked; infinite where none may. */
  wait(ways: Way[], now: number): number {
    return Math.max(0, Math.min(...ways.map(({ url }) => this.#rests.get(url)?.until ?? 0)) - now);
  }

  /** The page is back, where much may have changed: every way may be asked once more. */
  rouse(): void {
    for (const rest of this.#rests.values()) if (rest.failure.end.fault !== "forbidden") rest.until = 0;
  }

  forget(): void {
    this.#rests.clear();
  }
}

/** 0 for what costs nobody anything, and may be a blink. */
function restAfter({ answer, end }: Failure, refusals: number): number {
  if (end.fault === "forbidden") return Infinity;
  if (!answer) return 0;
  const rest = FIRST_REST_MS * 2 ** (refusals - 1);
  if (answer === "gone") return Math.min(rest, LONGEST_ABSENCE_MS);
  return refusals > MOST_REFUSALS ? Infinity : rest;
}
