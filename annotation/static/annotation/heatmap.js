// Heat maps over pictures: one byte per patch becomes one colour per patch on a canvas of that many pixels, which CSS
// stretches over the picture. 255 is the image's own maximum; 0 means silent, and silent patches are only dimmed.

// Ten anchors per palette, from matplotlib's viridis and cividis; colours between anchors are mixed.
const ANCHORS = {
  viridis: ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"],
  cividis: ["00224e", "1a386f", "434e6c", "61656f", "7d7c78", "9b9476", "bbad6c", "dcc85b", "f4dc4f", "fee838"],
};
const DIMMING = 0.5; // how far a silent patch goes towards black, relative to the opacity asked for
const tables = new Map();

function table(palette) {
  if (!tables.has(palette)) {
    const anchors = ANCHORS[palette].map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
    const mixed = Array.from({ length: 256 }, (_, byte) => {
      const at = (byte / 255) * (anchors.length - 1);
      const left = Math.min(Math.floor(at), anchors.length - 2);
      return anchors[left].map((low, i) => Math.round(low + (anchors[left + 1][i] - low) * (at - left)));
    });
    tables.set(palette, mixed);
  }
  return tables.get(palette);
}

/** The colour of one byte: [red, green, blue]. */
export function colorAt(palette, byte) {
  return table(palette)[byte];
}

/** The bytes of a map that travelled as base64. */
export function decodeMap(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** Paint a map of rows × columns patches; the canvas takes that size in pixels. */
export function paintHeat(canvas, map, rows, columns, { opacity = 0.5, palette = "viridis" } = {}) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(columns, rows);
  for (let patch = 0; patch < rows * columns; patch += 1) {
    const byte = map[patch];
    const [red, green, blue] = byte === 0 ? [0, 0, 0] : colorAt(palette, byte);
    const strength = byte === 0 ? DIMMING : 0.75 + 0.25 * (byte / 255);
    picture.data.set([red, green, blue, Math.round(255 * opacity * strength)], patch * 4);
  }
  context.putImageData(picture, 0, 0);
}

/** Paint the scale: silent at the left, the image's own maximum at the right. */
export function paintScale(canvas, palette = "viridis") {
  canvas.width = 256;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(256, 1);
  for (let byte = 0; byte < 256; byte += 1) picture.data.set([...colorAt(palette, byte), 255], byte * 4);
  context.putImageData(picture, 0, 0);
}
