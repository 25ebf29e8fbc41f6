import { expect, it } from "vitest";
import { paths, type Sample } from "../src/ui/graph";

function samples(...rows: [number, number, number][]): Sample[] {
  return rows.map(([at, value, target]) => ({ at, value, target }));
}

it("puts the last sample at the right, the highest value or target near the top, and nothing at the bottom", () => {
  expect(paths(samples([100, 0, 0], [101, 23, 0]))).toEqual({ value: "M29 20L30 2.6", area: "M29 20L30 2.6V20H29Z", target: "" });
  expect(paths(samples([100, 10, 20], [101, 10, 20])).value).toBe("M29 11.3L30 11.3");
});

it("parts the lines where nothing came, and where the hub had no aim", () => {
  const { value, area, target } = paths(samples([0, 1, 1], [1, 1, 1], [2, 1, 0], [20, 1, 0], [21, 1, 1], [22, 1, 1]));
  expect(value.match(/M/g)?.length).toBe(2);
  expect(area.match(/Z/g)?.length).toBe(2);
  expect(target).toBe("M8 2.6L9 2.6M29 2.6L30 2.6");
});

it("draws nothing of nothing", () => {
  expect(paths([])).toEqual({ value: "", area: "", target: "" });
  expect(paths(samples([0, 0, 0])).value).toBe("M30 20");
});
