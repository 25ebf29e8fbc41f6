import { expect, it } from "vitest";
import { type Corners, inBox, type Point } from "../src/input/quad";

/** The corners of a box of 400x200 whose top left would lie at (30, 20), as *shown* moves each. */
function corners(shown: (at: Point) => Point): Corners {
  return ([[0, 0], [400, 0], [400, 200], [0, 200]] as const).map(([x, y]) => shown({ x, y })) as Corners;
}

const degrees = (angle: number) => (angle * Math.PI) / 180;
const turn = (angle: number) => ({ x, y }: Point) => {
  const [c, s] = [Math.cos(degrees(angle)), Math.sin(degrees(angle))];
  return { x: 30 + c * x - s * y, y: 20 + s * x + c * y };
};
/** `perspective(600px) rotateY(50deg)` about the middle. */
const leans = ({ x, y }: Point) => {
  const [across, depth] = [(x - 200) * Math.cos(degrees(50)), (200 - x) * Math.sin(degrees(50))];
  const near = 600 / (600 - depth);
  return { x: 230 + across * near, y: 120 + (y - 100) * near };
};

it.each<[string, (at: Point) => Point]>([
  ["scaled", ({ x, y }) => ({ x: 30 + x / 2, y: 20 + 3 * y })],
  ["mirrored", ({ x, y }) => ({ x: 430 - x, y: 20 + y })],
  ["upside down", ({ x, y }) => ({ x: 430 - x, y: 220 - y })],
  ["turned by a little", turn(0.4)],
  ["turned", turn(30)],
  ["turned by a quarter", turn(90)],
  ["skewed", ({ x, y }) => ({ x: 30 + x + 0.5 * y, y: 20 + y - 0.2 * x })],
  ["in perspective", leans],
])("finds every point of a box that is %s", (_, shown) => {
  for (const at of [{ x: 0, y: 0 }, { x: 40, y: 150 }, { x: 399, y: 1 }, { x: -50, y: 230 }]) {
    const found = inBox(corners(shown), 400, 200, shown(at))!;
    expect(found.x).toBeCloseTo(at.x, 6);
    expect(found.y).toBeCloseTo(at.y, 6);
  }
});

it("is exact where the box stands upright, at its edges above all", () => {
  const at = { x: 10.1, y: 20.7 };
  const upright = corners(({ x, y }) => ({ x: at.x + (x / 400) * 333.3, y: at.y + (y / 200) * 77.7 }));
  expect(inBox(upright, 333.3, 77.7, at)).toEqual({ x: 0, y: 0 });
  expect(inBox(upright, 333.3, 77.7, { x: at.x + 333.3, y: at.y + 77.7 })!.x).toBe(333.3);
});

it("is nowhere in a box that is seen from its edge, or has no size", () => {
  expect(inBox(corners(({ y }) => ({ x: 30, y: 20 + y })), 400, 200, { x: 30, y: 50 })).toBeNull();
  expect(inBox(corners(() => ({ x: 30, y: 20 })), 400, 200, { x: 30, y: 20 })).toBeNull();
});

it("is nowhere beyond the horizon of a box in perspective", () => {
  expect(inBox(corners(leans), 400, 200, { x: 5000, y: 120 })).toBeNull();
});
