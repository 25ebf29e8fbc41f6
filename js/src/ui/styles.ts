// The style sheet of a view, in an element of its own or, where the page's policy forbids those, as an object.

import styles from "inline:./style.css";

export class Styles {
  readonly element = document.createElement("style");
  #root: Document | ShadowRoot | null = null;
  #sheet: CSSStyleSheet | null = null;

  constructor() {
    this.element.textContent = styles;
  }

  /** See that they hold where the element is. */
  ensure(): void {
    if (this.element.sheet || !this.element.isConnected) return;
    this.#root = this.element.getRootNode() as Document | ShadowRoot;
    this.#sheet = new CSSStyleSheet();
    this.#sheet.replaceSync(styles);
    this.element.remove();
    this.#root.adoptedStyleSheets.push(this.#sheet);
  }

  remove(): void {
    this.element.remove();
    if (!this.#root) return;
    this.#root.adoptedStyleSheets = this.#root.adoptedStyleSheets.filter((sheet) => sheet !== this.#sheet);
  }
}
