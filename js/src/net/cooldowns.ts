// How often candidates that a server has refused are asked again: each question is a line in its log, and most refusals are for good.

import type { Candidate } from "./candidates";
import type { Failure } from "./diagnosis";

const FIRST_MS = 2000;
/** 2 s, 4 s, and so on: half an hour in all. After that only the user, or a page that comes back, asks. */
const MOST_REFUSALS = 10;
/** Of a server that says that it is away. */
const LONGEST_ABSENCE_MS = 30_000;

interface Cooldown {
  failure: Failure;
  refusals: number;
  until: number;
}

/** Pure: the caller passes the time, in milliseconds. */
export class Cooldowns {
  #byUrl = new Map<string, Cooldown>();

  /** Those of *candidates* that may be asked. */
  due(candidates: Candidate[], now: number): Candidate[] {
    return candidates.filter(({ url }) => (this.#byUrl.get(url)?.until ?? 0) <= now);
  }

  /** Remember how candidates have failed. Returns that, and how those failed which were not asked this time. */
  record(failures: Failure[], now: number): Failure[] {
    const asked = new Set(failures.map(({ candidate }) => candidate.url));
    const resting = [...this.#byUrl.values()].map(({ failure }) => failure).filter(({ candidate }) => !asked.has(candidate.url));
    for (const failure of failures) {
      const { url } = failure.candidate;
      const refusals = (this.#byUrl.get(url)?.refusals ?? 0) + 1;
      const length = cooldownAfter(failure, refusals);
      if (length) this.#byUrl.set(url, { failure, refusals, until: now + length });
      else this.#byUrl.delete(url);
    }
    return [...failures, ...resting];
  }

  /** Milliseconds until one of *candidates* may be asked; infinite where none may. */
  wait(candidates: Candidate[], now: number): number {
    return Math.max(0, Math.min(...candidates.map(({ url }) => this.#byUrl.get(url)?.until ?? 0)) - now);
  }

  /** The page is back, where much may have changed: every candidate may be asked once more. */
  expire(): void {
    for (const cooldown of this.#byUrl.values()) if (cooldown.failure.end.fault !== "forbidden") cooldown.until = 0;
  }

  clear(): void {
    this.#byUrl.clear();
  }
}

/** 0 for what costs nobody anything, and may be a blink. */
function cooldownAfter({ answer, end }: Failure, refusals: number): number {
  if (end.fault === "forbidden") return Infinity;
  if (!answer) return 0;
  const length = FIRST_MS * 2 ** (refusals - 1);
  if (answer === "gone") return Math.min(length, LONGEST_ABSENCE_MS);
  return refusals > MOST_REFUSALS ? Infinity : length;
}
