// A mask painted over an image with a soft brush that adds or erases, with undo.

const STEPS = 30; // number of strokes that can be undone
const OVERLAY = [230, 40, 60, 130]; // red, green, blue and opacity where the mask is full

/** The opacity of the brush at a distance from its centre: 1 inside, falling smoothly to 0. */
export function brushShare(distance, radius, softness) {
  const inner = radius * (1 - softness);
  if (distance <= inner) return 1;
  if (distance >= radius) return 0;
  const t = (radius - distance) / (radius - inner);
  return t * t * (3 - 2 * t);
}

/** The bounding rectangle of both; null is empty. */
export function union(one, other) {
  if (!one || !other) return one ?? other;
  return {
    left: Math.min(one.left, other.left),
    top: Math.min(one.top, other.top),
    right: Math.max(one.right, other.right),
    bottom: Math.max(one.bottom, other.bottom),
  };
}

/** A mask with values from 0 to 255, and operations to paint on it. */
export class Mask {
  constructor(width, height, value = 255) {
    Object.assign(this, { width, height, undone: [] });
    this.values = new Uint8ClampedArray(width * height).fill(value);
  }

  /** Begins a stroke; `undo` returns to this state. */
  begin() {
    this.before = this.values.slice();
    this.touched = null;
  }

  /** Paints along a line; returns the rectangle that may have changed. */
  line(from, to, { radius, softness, erase }) {
    const length = Math.hypot(to.x - from.x, to.y - from.y);
    const count = Math.max(1, Math.ceil(length / Math.max(1, radius / 4)));
    let changed = null;
    for (let step = 0; step <= count; step++) {
      const share = step / count;
      const x = from.x + share * (to.x - from.x);
      const y = from.y + share * (to.y - from.y);
      changed = union(changed, this.#stamp(x, y, radius, softness, erase));
    }
    this.touched = union(this.touched, changed);
    return changed;
  }

  #stamp(x, y, radius, softness, erase) {
    const box = {
      left: Math.max(0, Math.floor(x - radius)),
      top: Math.max(0, Math.floor(y - radius)),
      right: Math.min(this.width, Math.ceil(x + radius) + 1),
      bottom: Math.min(this.height, Math.ceil(y + radius) + 1),
    };
    if (box.left >= box.right || box.top >= box.bottom) return null;
    for (let row = box.top; row < box.bottom; row++) {
      for (let column = box.left; column < box.right; column++) {
        const share = brushShare(Math.hypot(column + 0.5 - x, row + 0.5 - y), radius, softness);
        const at = row * this.width + column;
        const value = erase ? 255 * (1 - share) : 255 * share;
        this.values[at] = erase
          ? Math.min(this.values[at], value)
          : Math.max(this.values[at], value);
      }
    }
    return box;
  }

  /** Ends a stroke; returns the changed rectangle, or null. */
  end() {
    if (this.touched) this.#keep(this.touched);
    return this.touched;
  }

  #keep(box) {
    const width = box.right - box.left;
    const held = new Uint8ClampedArray(width * (box.bottom - box.top));
    for (let row = box.top; row < box.bottom; row++) {
      const start = row * this.width + box.left;
      held.set(this.before.subarray(start, start + width), (row - box.top) * width);
    }
    this.undone.push({ box, held });
    if (this.undone.length > STEPS) this.undone.shift();
    this.before = null;
  }

  /** Sets all values; returns the changed rectangle. */
  fill(value) {
    this.begin();
    this.values.fill(value);
    this.touched = { left: 0, top: 0, right: this.width, bottom: this.height };
    return this.end();
  }

  /** Undoes the last stroke; returns the changed rectangle, or null if there is none. */
  undo() {
    const last = this.undone.pop();
    if (!last) return null;
    const { box, held } = last;
    const width = box.right - box.left;
    for (let row = box.top; row < box.bottom; row++) {
      const start = (row - box.top) * width;
      this.values.set(held.subarray(start, start + width), row * this.width + box.left);
    }
    return box;
  }

  /** Draws a rectangle of the mask as an overlay. */
  draw(context, { left, top, right, bottom }) {
    const [width, height] = [right - left, bottom - top];
    const picture = new ImageData(width, height);
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const value = this.values[(top + row) * this.width + left + column];
        picture.data.set(
          [...OVERLAY.slice(0, 3), (OVERLAY[3] * value) / 255],
          4 * (row * width + column),
        );
      }
    }
    context.putImageData(picture, left, top);
  }

  /** The mask as a grey picture. */
  picture() {
    const picture = new ImageData(this.width, this.height);
    this.values.forEach((value, at) => picture.data.set([value, value, value, 255], 4 * at));
    return picture;
  }
}

/**
 * Lets a pointer or the keyboard paint on a canvas over the image.
 * Arrow keys move the brush, Space paints, [ and ] change its size, E turns erasing on and off,
 * Ctrl+Z undoes.
 * @param {{mask: () => Mask, brush: () => object, changed: (box, done) => void, undo: () => void,
 *   resize: (factor) => void, toggle: () => void}} page callbacks of the page.
 */
export function listen(canvas, cursor, page) {
  let last = null;
  const place = { x: 0, y: 0 };

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * canvas.width,
      y: ((event.clientY - box.top) / box.height) * canvas.height,
    };
  };
  const follow = ({ x, y }) => {
    Object.assign(place, { x, y });
    const scale = canvas.getBoundingClientRect().width / canvas.width;
    const side = 2 * page.brush().radius * scale;
    cursor.style.cssText = `left: ${x * scale}px; top: ${y * scale}px; width: ${side}px; height: ${side}px`;
    cursor.hidden = false;
  };
  const paint = (from, to) => page.changed(page.mask().line(from, to, page.brush()), false);

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    last = at(event);
    page.mask().begin();
    paint(last, last);
    follow(last);
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event);
    follow(now);
    if (!last) return;
    paint(last, now);
    last = now;
  });
  const stop = () => {
    if (!last) return;
    last = null;
    page.changed(page.mask().end(), true);
  };
  canvas.addEventListener("pointerup", stop);
  canvas.addEventListener("pointercancel", stop);
  canvas.addEventListener("pointerleave", () => (cursor.hidden = last === null));

  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const { key } = event;
    if (key in steps) {
      const far = Math.max(1, page.brush().radius / (event.shiftKey ? 8 : 2));
      const [across, down] = steps[key];
      const clamp = (value, end) => Math.min(Math.max(value, 0), end);
      follow({
        x: clamp(place.x + far * across, canvas.width),
        y: clamp(place.y + far * down, canvas.height),
      });
    } else if (key === " ") {
      page.mask().begin();
      paint(place, place);
      page.changed(page.mask().end(), true);
    } else if (key === "[" || key === "]") {
      page.resize(key === "]" ? 1.25 : 0.8);
      follow(place);
    } else if (key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
      page.undo();
    } else if (key.toLowerCase() === "e" && !event.ctrlKey && !event.metaKey) {
      page.toggle();
    } else {
      return;
    }
    event.preventDefault();
  });
  canvas.addEventListener("focus", () => follow(place.x || place.y ? place : { x: canvas.width / 2, y: canvas.height / 2 }));
  canvas.addEventListener("blur", () => (cursor.hidden = true));
}
