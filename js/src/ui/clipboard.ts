// The user's clipboard: what the hub wants to stand there is written when the browser lets it be.

export class Clipboard {
  #keys: HTMLElement;
  #text: string | null = null;

  /** Until *signal* aborts; *stage* and *keys* are where the view is clicked and typed into. */
  constructor(stage: HTMLElement, keys: HTMLElement, signal: AbortSignal) {
    this.#keys = keys;
    const listen = (target: HTMLElement, type: string) => target.addEventListener(type, () => void this.#write(), { signal });
    for (const type of ["pointerdown", "pointerup"]) listen(stage, type);
    listen(keys, "keydown");
  }

  /** At once where the view has the focus, else with the next key or click in it: nobody else's clipboard is touched. */
  put(text: string): void {
    this.#text = text;
    const focused = (this.#keys.getRootNode() as Document | ShadowRoot).activeElement === this.#keys;
    if (focused && document.hasFocus()) void this.#write();
  }

  /** It is not wanted any more. */
  forget(): void {
    this.#text = null;
  }

  /** Browsers that refuse without a key or click are asked again with the next. */
  async #write(): Promise<void> {
    const text = this.#text;
    if (text === null) return;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      if (!copyByCommand(text)) return;
    }
    if (this.#text === text) this.#text = null;
  }
}

/** Insecure pages, and frames that are not allowed the new way, have the old one. */
function copyByCommand(text: string): boolean {
  const put = (e: ClipboardEvent) => {
    e.clipboardData?.setData("text/plain", text);
    e.preventDefault();
    e.stopImmediatePropagation();
  };
  document.addEventListener("copy", put, true);
  try {
    return document.execCommand("copy");
  } finally {
    document.removeEventListener("copy", put, true);
  }
}
