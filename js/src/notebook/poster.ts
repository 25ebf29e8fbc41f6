// The picture that a saved notebook keeps of the view is hidden while the view has one of its own.

import type { Height } from "../ui/box";

/** How many views hide the poster of a class name, and the style that does. */
const hidden = new Map<string, { views: number; sheet: CSSStyleSheet }>();
/** JupyterLab's element of one document: another beside it may be a copy of the notebook, whose poster is all that it has. */
const DOCUMENT = ".jp-MainAreaWidget";

/** Hide the poster in the document that the view's *el* is in, until what this returns is called. */
export function hidePoster(name: string, el: HTMLElement): () => void {
  if (!/^[\w-]+$/.test(name)) return () => {};
  el.dataset.rfbHides = name;
  const entry = hidden.get(name) ?? { views: 0, sheet: makeSheet(name) };
  if (!entry.views++) {
    hidden.set(name, entry);
    document.adoptedStyleSheets.push(entry.sheet);
  }
  let done = false;
  return () => {
    if (done) return;
    done = true;
    delete el.dataset.rfbHides;
    if (--entry.views) return;
    hidden.delete(name);
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => sheet !== entry.sheet);
  };
}

/** Show a picture in place of a view that has none yet, as in an export, where it never will. */
export function standIn(el: HTMLElement, url: string, height: Height): () => void {
  if (!url) return () => {};
  const image = document.createElement("img");
  Object.assign(image, { className: "rfb-poster", alt: "The last picture", src: url });
  const maxHeight = typeof height === "number" ? `${height}px` : "";
  Object.assign(image.style, { display: "block", maxWidth: "100%", maxHeight });
  let shown: HTMLElement = image;
  const replace = (canvas: HTMLCanvasElement) => {
    canvas.className = image.className;
    canvas.style.cssText = image.style.cssText;
    canvas.role = "img";
    canvas.ariaLabel = image.alt;
    shown.replaceWith(canvas);
    shown = canvas;
  };
  // What is no picture keeps the words of the image that failed.
  image.onerror = () => void drawn(url).then(replace, () => {});
  el.append(image);
  return () => shown.remove();
}

/** The picture of a data *url*, which a page's policy may forbid to images. */
async function drawn(url: string): Promise<HTMLCanvasElement> {
  const bytes = Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), (character) => character.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes]));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.getContext("2d")!.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas;
}

function makeSheet(name: string): CSSStyleSheet {
  // With the notebook's own boxes around it, whose margins would stay: JupyterLab's and nbclassic's.
  const boxes = [".jp-OutputArea-child", ".output_area"].map((box) => `${box}:has(> * .${name}, > .${name})`);
  const sheet = new CSSStyleSheet();
  const within = document.querySelector(DOCUMENT) ? `${DOCUMENT}:has([data-rfb-hides="${name}"])` : "";
  sheet.replaceSync(`${within} :is(${[`.${name}`, ...boxes].join(", ")}) { display: none !important }`);
  return sheet;
}
