// Where a point of the page lies in a box that the page shows turned, mirrored, skewed or in perspective.

export interface Point {
  x: number;
  y: number;
}

/** In the page, clockwise from what is the box's own top left. */
export type Corners = [Point, Point, Point, Point];

/** *at* in a box of *width* and *height*. Null where the box is seen from its edge, or the point lies beyond its horizon. */
export function inBox(corners: Corners, width: number, height: number, at: Point): Point | null {
  const [a, b, c, d] = corners;
  const [right, down] = [minus(b, a), minus(d, a)];
  // Exact for a box that stands upright, as nearly all do.
  const isUpright = right.y === 0 && down.x === 0 && c.x === b.x && c.y === d.y;
  if (isUpright && right.x && down.y) return { x: ((at.x - a.x) * width) / right.x, y: ((at.y - a.y) * height) / down.y };
  // The projection of the unit square: (u, v) lies at (a + U u + V v) / (1 + g u + h v). P. Heckbert, 1989, section 2.2.3.
  const [over, under] = [minus(b, c), minus(d, c)];
  const bend = minus(minus(c, b), minus(d, a));
  const area = cross(over, under);
  const [g, h] = [cross(bend, under) / area, cross(over, bend) / area];
  const U = { x: right.x + g * b.x, y: right.y + g * b.y };
  const V = { x: down.x + h * d.x, y: down.y + h * d.y };
  const [p, q] = [{ x: U.x - g * at.x, y: U.y - g * at.y }, { x: V.x - h * at.x, y: V.y - h * at.y }];
  const from = minus(at, a);
  const u = cross(from, q) / cross(p, q);
  const v = cross(p, from) / cross(p, q);
  return 1 + g * u + h * v > 0 ? { x: u * width, y: v * height } : null; // also where any of it is no number
}

function minus(a: Point, b: Point): Point {
  return { x: a.x - b.x, y: a.y - b.y };
}

function cross(a: Point, b: Point): number {
  return a.x * b.y - a.y * b.x;
}

/** Finds out where the page shows an element's corners. */
export class Markers {
  #markers: HTMLElement[];

  constructor(element: HTMLElement) {
    this.#markers = [["0", "0"], ["100%", "0"], ["100%", "100%"], ["0", "100%"]].map(([left, top]) => {
      const marker = document.createElement("i");
      marker.className = "rfb-corner";
      Object.assign(marker.style, { left, top });
      return marker;
    });
    element.append(...this.#markers);
  }

  get corners(): Corners {
    return this.#markers.map((marker) => marker.getBoundingClientRect()) as Point[] as Corners;
  }
}
