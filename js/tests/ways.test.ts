import { expect, it } from "vitest";
import { type Way, Ways } from "../src/decode/ways";

/** What is chosen where a picture takes so long in each way; *disturbed* says how much longer the picture of that number takes. */
function chosen(times: Record<Way, number>, disturbed: (number: number) => number = () => 0): Way {
  const ways = new Ways();
  for (let number = 0; ways.measuring; number++) {
    const way = ways.next();
    ways.took(way, times[way] + disturbed(number));
  }
  return ways.next();
}

it("takes the quickest way", () => {
  expect(chosen({ copy: 7, draw: 11, bitmap: 15 })).toBe("copy");
  expect(chosen({ copy: 16, draw: 3, bitmap: 4 })).toBe("draw");
  expect(chosen({ copy: 16, draw: 9, bitmap: 4 })).toBe("bitmap");
});

it("keeps to the earlier way where a later one is not clearly quicker", () => {
  expect(chosen({ copy: 10, draw: 9, bitmap: 8.5 })).toBe("copy");
  expect(chosen({ copy: 16, draw: 9, bitmap: 8 })).toBe("draw");
});

it("does not take a way that fails, nor miss one that works", () => {
  expect(chosen({ copy: 10, draw: Infinity, bitmap: Infinity })).toBe("copy");
  expect(chosen({ copy: Infinity, draw: 9, bitmap: Infinity })).toBe("draw");
});

it("judges by the best time of each: a busy machine only adds to them", () => {
  expect(chosen({ copy: 6, draw: 10, bitmap: 12 }, (number) => (number < 18 ? 40 : 0))).toBe("copy");
});

it("tries the ways in turn, until each has shown enough pictures", () => {
  const ways = new Ways();
  const tried = Array.from({ length: 24 }, () => ways.next());
  expect(tried.slice(0, 4)).toEqual(["copy", "draw", "bitmap", "copy"]);
  for (const way of tried.slice(1)) ways.took(way, 1);
  expect(ways.measuring).toBe(true);
  ways.took("copy", 1);
  expect(ways.measuring).toBe(false);
});
