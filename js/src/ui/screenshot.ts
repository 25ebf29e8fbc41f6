// The picture as a file.

/** *canvas* as a PNG of *width* x *height* pixels. */
export async function asPng(canvas: HTMLCanvasElement, width: number, height: number): Promise<Blob> {
  // A canvas whose control was transferred can't be saved itself, but drawn.
  const copy = document.createElement("canvas");
  copy.width = width || 1;
  copy.height = height || 1;
  copy.getContext("2d")!.drawImage(canvas, 0, 0);
  return await new Promise((resolve, reject) =>
    copy.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the picture is too large to save"))), "image/png"),
  );
}

/** Have the browser save *blob* as a file of this *name*. */
export function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
