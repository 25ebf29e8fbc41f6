import { describe, expect, it } from "vitest";
import { type Fit, Viewport } from "../src/input/viewport";

function viewport(fit: Fit, box: [number, number], frame: [number, number], ratio = 1): Viewport {
  const made = new Viewport();
  made.fit = fit;
  made.setBox(...box, ratio);
  made.setFrame(...frame);
  return made;
}

describe("placement", () => {
  it("contain shows the whole frame, centred, with bars", () => {
    expect(viewport("contain", [1000, 500], [200, 200]).placement()).toEqual({ left: 250, top: 0, width: 500, height: 500 });
  });

  it("cover leaves no bars and cuts off evenly", () => {
    expect(viewport("cover", [1000, 500], [200, 200]).placement()).toEqual({ left: 0, top: -250, width: 1000, height: 1000 });
  });

  it("fill stretches", () => {
    expect(viewport("fill", [1000, 500], [200, 200]).placement()).toEqual({ left: 0, top: 0, width: 1000, height: 500 });
  });

  it.each([1, 1.25, 2, 2.625])("none is one pixel on one of the screen at ratio %s, in a box of any size", (ratio) => {
    for (const box of [[333.3, 200], [4000, 3000]] as [number, number][]) {
      const { left, top, width, height } = viewport("none", box, [640, 360], ratio).placement();
      expect([width * ratio, height * ratio].map((length) => +length.toFixed(6))).toEqual([640, 360]);
      for (const place of [left * ratio, top * ratio]) expect(place).toBeCloseTo(Math.round(place), 9);
    }
  });

  it("is one to one on device pixels when the frame was rendered for the box", () => {
    const made = viewport("contain", [640.5, 360.3], [961, 540], 1.5);
    const { width, height, left } = made.placement();
    expect(width * 1.5).toBeCloseTo(Math.round(width * 1.5), 9);
    expect(height * 1.5).toBeCloseTo(Math.round(height * 1.5), 9);
    expect(left * 1.5).toBeCloseTo(Math.round(left * 1.5), 9);
  });

  it.each([
    [[801, 601], 1],
    [[601, 401], 1.25],
    [[601, 401], 1.5],
    [[333, 777], 2],
    [[1001, 37], 1.1],
  ] as [[number, number], number][])("is one to one for a frame of the box %j at %d, made even", (box, ratio) => {
    const even = (length: number) => Math.floor((length * ratio) / 2) * 2;
    const frame: [number, number] = [even(box[0]), even(box[1])];
    for (const fit of ["contain", "cover", "fill"] as Fit[]) {
      const made = viewport(fit, box, frame, ratio);
      const { width, height } = made.placement();
      expect(width * ratio).toBeCloseTo(frame[0], 9);
      expect(height * ratio).toBeCloseTo(frame[1], 9);
      expect(made.magnification()).toBeCloseTo(1, 9);
      expect(made.overflows).toBe(false);
    }
  });

  it("is scaled to the box where it differs by more than rounding", () => {
    for (const width of [798, 802]) {
      expect(viewport("fill", [801, 601], [width, 601]).placement()).toMatchObject({ width: 801, height: 601 });
    }
  });

  it("is nothing before the first frame or with a box of no width", () => {
    expect(new Viewport().placement().width).toBe(0);
    const empty = viewport("contain", [0, 0], [100, 100]);
    expect(empty.placement().width).toBe(0);
    expect(empty.toFrame(5, 5).inside).toBe(false);
    empty.setBox(200, 200, 1);
    expect(empty.placement()).toEqual({ left: 0, top: 0, width: 200, height: 200 });
  });
});

describe("toFrame", () => {
  it.each(["contain", "cover", "fill"] as Fit[])("is the inverse of placement with %s", (fit) => {
    const made = viewport(fit, [900, 333], [640, 480], 1.25);
    const { left, top, width, height } = made.placement();
    for (const [u, v] of [[0, 0], [0.25, 0.5], [0.999, 0.999]] as const) {
      const at = made.toFrame(left + u * width, top + v * height);
      expect(at.x).toBeCloseTo(u * 640, 6);
      expect(at.y).toBeCloseTo(v * 480, 6);
      expect(at.inside).toBe(true);
    }
  });

  it("is not inside over the bars, and goes on counting there", () => {
    const made = viewport("contain", [1000, 500], [200, 200]);
    expect(made.toFrame(200, 250)).toEqual({ x: -20, y: 100, inside: false });
    expect(made.toFrame(750, 250).inside).toBe(false);
  });
});

describe("zoom and pan", () => {
  it("keeps what is under the pointer where it is", () => {
    const made = viewport("contain", [800, 600], [800, 600]);
    made.zoomBy(3, 500, 200);
    const before = made.toFrame(500, 200);
    made.zoomBy(1.7, 500, 200);
    const after = made.toFrame(500, 200);
    expect(after.x).toBeCloseTo(before.x, 0);
    expect(after.y).toBeCloseTo(before.y, 0);
    expect(before.x).toBeCloseTo(500, 0);
  });

  it("never shows beside a picture that could fill the box", () => {
    const made = viewport("contain", [800, 600], [800, 600]);
    made.zoomBy(2, 0, 0);
    made.panBy(10_000, 10_000);
    expect(made.placement()).toMatchObject({ left: 0, top: 0 });
    made.panBy(-10_000, -10_000);
    expect(made.placement()).toMatchObject({ left: -800, top: -600 });
  });

  it("does not go below the whole picture, and resets", () => {
    const made = viewport("contain", [800, 600], [800, 600]);
    made.zoomBy(0.1, 100, 100);
    expect(made.zoom).toBe(1);
    made.zoomBy(4, 100, 100);
    made.reset();
    expect(made.placement()).toEqual({ left: 0, top: 0, width: 800, height: 600 });
  });

  it("keeps a narrow picture in the middle while it is zoomed", () => {
    const made = viewport("contain", [1000, 500], [100, 500]);
    made.zoomBy(2, 0, 0);
    expect(made.placement().left).toBe(400);
  });

  it("survives a change of size", () => {
    const made = viewport("contain", [800, 600], [800, 600]);
    made.zoomBy(2, 800, 600);
    made.setFrame(1, 1);
    made.setBox(300, 10, 2);
    const { width, height } = made.placement();
    expect([width, height]).toEqual([20, 20]);
  });
});
