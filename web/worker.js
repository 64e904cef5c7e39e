// Restores images off the page's thread; the newest request supersedes an unfinished one.

import * as ort from "./ort/ort.wasm.min.mjs";
import { enlarge, grown, levelPlane, levelsOfMask, paste, planes, tiles } from "./pixels.js";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
// Threads need headers that a plain static host does not send.
if (!self.crossOriginIsolated) ort.env.wasm.numThreads = 1;

const TILE = 256;
const PAINTED_TILE = 128; // of what a stroke changed, which is mostly small
const sessions = new Map();
let newest = 0;
let queue = Promise.resolve();

function session(file) {
  if (!sessions.has(file)) {
    const loading = ort.InferenceSession.create(new URL(file, import.meta.url).href);
    loading.catch(() => sessions.delete(file)); // so that the next request tries again
    sessions.set(file, loading);
  }
  return sessions.get(file);
}

/** One tile restored: at one level, or, where its pixels have several, with all of them. */
async function apply(model, image, level, part, mask, levels) {
  const { data, dims } = planes(image, part);
  const tile = new ort.Tensor("float32", data, dims);
  const own = mask && levelPlane(mask, levels, image.width, part);
  if (!own || own.level !== null) {
    const network = await session(model.file);
    const scalar = new ort.Tensor("float32", [own ? own.level : level], []);
    return (await network.run({ image: tile, level: scalar })).restored;
  }
  const network = await session(model.mapFile);
  const map = new ort.Tensor("float32", own.plane, own.dims);
  return (await network.run({ image: tile, level: map })).restored;
}

/**
 * Restores an image, or, of one that was restored before, what a change of the mask within `box`
 * can change.
 */
async function restore({ id, image, level, model, mask, box, before }) {
  await session(model.file);
  if (id !== newest) return;
  const start = performance.now();
  const input = model.enlarges ? enlarge(image, level) : image;
  // Transparency is kept.
  const output = { ...input, data: before ?? new Uint8ClampedArray(input.data) };
  const { width, height } = input;
  const seen = box && grown(box, model.margin, width, height);
  const side = seen ? PAINTED_TILE : TILE;
  const parts = tiles(width, height, { side, margin: model.margin, box: seen });
  const levels = mask && levelsOfMask(level, model);
  for (const [index, part] of parts.entries()) {
    const restored = await apply(model, input, level, part, mask, levels);
    paste(restored.data, part, output, { mask, before: input.data });
    restored.dispose();
    // Let a newer request, posted meanwhile, be noticed.
    await new Promise((resolve) => setTimeout(resolve));
    if (id !== newest) return;
    postMessage({ id, kind: "progress", done: index + 1, total: parts.length });
  }
  const seconds = (performance.now() - start) / 1000;
  postMessage({ id, kind: "done", input, output, seconds }, [output.data.buffer]);
}

onmessage = ({ data: request }) => {
  newest = request.id;
  queue = queue.then(async () => {
    if (request.id !== newest) return;
    try {
      await restore(request);
    } catch (error) {
      postMessage({ id: request.id, kind: "failed", reason: String(error.message ?? error) });
    }
  });
};
