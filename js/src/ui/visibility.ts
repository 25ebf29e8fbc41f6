// Whether the view can be seen: it is scrolled into sight, and its page is in front.

export class Visibility {
  #onScreen = true;
  #shown = true;
  #onChange: (shown: boolean) => void;

  /** *onChange* is called when that changes, until *signal* aborts; at first the view counts as seen. */
  constructor(root: HTMLElement, signal: AbortSignal, onChange: (shown: boolean) => void) {
    this.#onChange = onChange;
    const observer = new IntersectionObserver((entries) => {
      this.#onScreen = entries.at(-1)!.isIntersecting;
      this.#update();
    });
    observer.observe(root);
    signal.addEventListener("abort", () => observer.disconnect());
    document.addEventListener("visibilitychange", () => this.#update(), { signal });
    this.#update();
  }

  get shown(): boolean {
    return this.#shown;
  }

  #update(): void {
    const shown = this.#onScreen && document.visibilityState === "visible";
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#onChange(shown);
  }
}
