// The picture that a saved notebook keeps of the view is hidden while the view has one of its own.

/** How many views hide the poster of a class name, and the style that does. */
const hidden = new Map<string, { views: number; sheet: CSSStyleSheet }>();

/** Hide the poster until what this returns is called. */
export function hidePoster(name: string): () => void {
  if (!/^[\w-]+$/.test(name)) return () => {};
  const entry = hidden.get(name) ?? { views: 0, sheet: makeSheet(name) };
  if (!entry.views++) {
    hidden.set(name, entry);
    document.adoptedStyleSheets.push(entry.sheet);
  }
  let done = false;
  return () => {
    if (done) return;
    done = true;
    if (--entry.views) return;
    hidden.delete(name);
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => sheet !== entry.sheet);
  };
}

/** Show a picture in place of a view that has none yet, as in an export, where it never will. */
export function standIn(el: HTMLElement, url: string, height: number): () => void {
  if (!url) return () => {};
  const image = document.createElement("img");
  Object.assign(image, { className: "rfb-poster", alt: "The last picture", src: url });
  Object.assign(image.style, { display: "block", maxWidth: "100%", maxHeight: `${height}px` });
  el.append(image);
  return () => image.remove();
}

function makeSheet(name: string): CSSStyleSheet {
  // With the notebook's own boxes around it, whose margins would stay: JupyterLab's and nbclassic's.
  const boxes = [".jp-OutputArea-child", ".output_area"].map((box) => `${box}:has(> * .${name}, > .${name})`);
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`${[`.${name}`, ...boxes].join(", ")} { display: none !important }`);
  return sheet;
}
