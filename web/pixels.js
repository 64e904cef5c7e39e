// Operations on pixels: bicubic enlargement as in training, tiles, and masks.

// Below this mask value, out of 255, the result fades to the original image.
const FAINT = 25.5;

/** Rounds like Python, with halves to even. */
function roundHalfEven(x) {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/** Keys' cubic convolution kernel, a = -0.5. */
function cubic(x) {
  x = Math.abs(x);
  if (x <= 1) return 1.5 * x ** 3 - 2.5 * x ** 2 + 1;
  return x < 2 ? -0.5 * x ** 3 + 2.5 * x ** 2 - 4 * x + 2 : 0;
}

/** Source indices and weights, four of each per output sample, with symmetric padding. */
function taps(sizeIn, sizeOut, factor) {
  const indices = new Int32Array(4 * sizeOut);
  const weights = new Float64Array(4 * sizeOut);
  for (let i = 0; i < sizeOut; i++) {
    const centre = (i + 0.5) / factor - 0.5;
    const first = Math.floor(centre) - 1;
    let sum = 0;
    for (let t = 0; t < 4; t++) sum += weights[4 * i + t] = cubic(centre - first - t);
    for (let t = 0; t < 4; t++) {
      weights[4 * i + t] /= sum;
      const folded = (((first + t) % (2 * sizeIn)) + 2 * sizeIn) % (2 * sizeIn);
      indices[4 * i + t] = folded < sizeIn ? folded : 2 * sizeIn - 1 - folded;
    }
  }
  return { indices, weights };
}

/** The size of an image enlarged by a factor of 1 or more. */
export function enlargedSize(width, height, factor) {
  return [width, height].map((side) => Math.max(1, roundHalfEven(side * factor)));
}

/**
 * Enlarges by a real factor of 1 or more, rounded to 8 bits.
 * @param {{width: number, height: number, data: Uint8ClampedArray}} image RGBA.
 */
export function enlarge(image, factor) {
  const [width, height] = enlargedSize(image.width, image.height, factor);
  const rows = taps(image.height, height, factor);
  const columns = taps(image.width, width, factor);
  const between = new Float32Array(height * image.width * 4);
  const stride = image.width * 4;
  for (let y = 0; y < height; y++) {
    for (let t = 0; t < 4; t++) {
      const from = rows.indices[4 * y + t] * stride;
      const weight = rows.weights[4 * y + t];
      for (let x = 0; x < stride; x++) between[y * stride + x] += weight * image.data[from + x];
    }
  }
  const data = new Uint8ClampedArray(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 4; c++) {
        let sum = 0;
        for (let t = 0; t < 4; t++) {
          const index = y * stride + 4 * columns.indices[4 * x + t] + c;
          sum += columns.weights[4 * x + t] * between[index];
        }
        data[4 * (y * width + x) + c] = sum; // clamped and rounded, halves to even
      }
    }
  }
  return { width, height, data };
}

/**
 * Tiles that cover an image, or a rectangle of it, each with the margin that its pixels depend on,
 * so that restoring tile by tile equals restoring the whole image. All origins, `side` and `margin`
 * are multiples of what the network needs.
 */
export function tiles(width, height, { side, margin, box = null }) {
  const cut = (size, first, last) => {
    const parts = [];
    for (let start = Math.floor(first / margin) * margin; start < last; start += side) {
      const end = Math.min(start + side, size, Math.ceil(last / margin) * margin);
      parts.push({ start, end, from: Math.max(0, start - margin), to: Math.min(size, end + margin) });
    }
    return parts;
  };
  const { left, top, right, bottom } = box ?? { left: 0, top: 0, right: width, bottom: height };
  return cut(height, top, bottom).flatMap((y) => cut(width, left, right).map((x) => ({ x, y })));
}

/** The rectangle grown by a margin, clipped to the image. */
export function grown({ left, top, right, bottom }, margin, width, height) {
  return {
    left: Math.max(0, left - margin),
    top: Math.max(0, top - margin),
    right: Math.min(width, right + margin),
    bottom: Math.min(height, bottom + margin),
  };
}

/** Linear interpolation in a table of ascending places and values. */
function interpolated(at, places, values) {
  let low = 0;
  let high = places.length - 1;
  if (at <= places[low]) return values[low];
  if (at >= places[high]) return values[high];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (places[middle] <= at) low = middle;
    else high = middle;
  }
  const share = (at - places[low]) / (places[high] - places[low]);
  return values[low] + share * (values[high] - values[low]);
}

/**
 * A function from a share to the level at that share of the distance, in z, from neutral.
 * @param {{z: number[], values: number[], neutral: number}} axis z of levels, ascending.
 */
function scaler(level, { z, values, neutral }) {
  const rising = values.map((value, index) => [value, z[index]]).sort((a, b) => a[0] - b[0]);
  const zOf = (value) =>
    interpolated(value, rising.map((pair) => pair[0]), rising.map((pair) => pair[1]));
  const [start, end] = [zOf(neutral), zOf(level)];
  return (share) => {
    if (share === 0) return neutral;
    return share === 1 ? level : interpolated(start + share * (end - start), z, values);
  };
}

/** The level of an axis at a strength: 0 is neutral, 1 the level itself. */
export function scaledLevel(level, strength, axis) {
  return scaler(level, axis)(strength);
}

/** The level of each axis for each value of a mask, from 0, neutral, to 255, the level itself. */
export function levelsOfMask(levels, axes) {
  return axes.map((axis, index) => {
    const at = scaler(levels[index], axis);
    return Float32Array.from({ length: 256 }, (_, value) => at(value / 255));
  });
}

/** The level planes of a tile with its margin; `levels` if all its pixels have the same ones. */
export function levelPlane(mask, tables, imageWidth, { x, y }) {
  const width = x.to - x.from;
  const height = y.to - y.from;
  const size = width * height;
  const plane = new Float32Array(tables.length * size);
  const first = mask[y.from * imageWidth + x.from];
  let same = true;
  for (let row = 0; row < height; row++) {
    const from = (y.from + row) * imageWidth + x.from;
    for (let column = 0; column < width; column++) {
      const value = mask[from + column];
      same &&= value === first;
      for (const [index, table] of tables.entries()) {
        plane[index * size + row * width + column] = table[value];
      }
    }
  }
  const levels = same ? tables.map((table) => table[first]) : null;
  return { plane, levels, dims: [1, tables.length, height, width] };
}

/** The middle of an image, from which its level is estimated, as in the Python package. */
export function middle(width, height, side = 2048) {
  const cut = (size) => {
    const from = Math.floor(Math.max(0, size - side) / 32) * 16;
    return { from, to: Math.min(size, from + side) };
  };
  return { x: cut(width), y: cut(height) };
}

/** A tile with its margin as planes, (colours, height, width) in [0, 1]. */
export function planes(image, { x, y }) {
  const width = x.to - x.from;
  const height = y.to - y.from;
  const out = new Float32Array(3 * width * height);
  for (let c = 0; c < 3; c++) {
    for (let row = 0; row < height; row++) {
      const from = 4 * ((y.from + row) * image.width + x.from) + c;
      const to = (c * height + row) * width;
      for (let column = 0; column < width; column++) {
        out[to + column] = image.data[from + 4 * column] / 255;
      }
    }
  }
  return { data: out, dims: [1, 3, height, width] };
}

/**
 * Copies a restored tile, without its margin, into the RGBA pixels of the whole image. Where a mask
 * is nearly black, the result fades to the original image, which it equals where it is black.
 */
export function paste(restored, { x, y }, image, { mask = null, before = null } = {}) {
  const width = x.to - x.from;
  const height = y.to - y.from;
  for (let c = 0; c < 3; c++) {
    for (let row = y.start; row < y.end; row++) {
      const from = (c * height + row - y.from) * width - x.from;
      const to = 4 * row * image.width + c;
      for (let column = x.start; column < x.end; column++) {
        const value = 255 * Math.min(Math.max(restored[from + column], 0), 1);
        const share = mask ? Math.min(1, mask[row * image.width + column] / FAINT) : 1;
        const rest = share < 1 ? (1 - share) * before[to + 4 * column] : 0;
        image.data[to + 4 * column] = share * value + rest; // rounded
      }
    }
  }
}

/**
 * An approximate result for a rectangle of an image: original and restored image mixed by the mask.
 * It is exact where the mask is 0, or 255, over the whole receptive field.
 * @param {Uint8ClampedArray} before RGBA pixels of the original image; `after`: restored.
 * @returns {{width: number, height: number, data: Uint8ClampedArray}} the rectangle.
 */
export function mixed(before, after, mask, imageWidth, { left, top, right, bottom }) {
  const [width, height] = [right - left, bottom - top];
  const data = new Uint8ClampedArray(4 * width * height);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const from = (top + row) * imageWidth + left + column;
      const share = mask[from] / 255;
      for (let c = 4 * from, to = 4 * (row * width + column); c < 4 * from + 4; c++, to++) {
        data[to] = before[c] + share * (after[c] - before[c]);
      }
    }
  }
  return { width, height, data };
}
