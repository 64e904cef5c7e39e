// Restores images outside the page's thread; a new request cancels an unfinished one.

import { enlarge, grown, levelPlane, levelsOfMask, middle, paste, planes, tiles } from "./pixels.js";
import { Runtime } from "./runtime.js";

const TILE = 256;
const PAINTED_TILE = 128; // smaller, because strokes mostly change small regions
const runtime = new Runtime(new URL(self.location).searchParams.get("backend"));
let newest = 0;
let queue = Promise.resolve();

/** The level input of a model: a number, or one for each part. */
function levelInput(levels) {
  return { data: levels, dims: levels.length > 1 ? [levels.length] : [] };
}

/** Restores one tile, with the level map model only if its pixels have different levels. */
async function apply(model, image, levels, part, mask, tables) {
  const tile = planes(image, part);
  const own = mask && levelPlane(mask, tables, image.width, part);
  if (!own || own.levels) {
    const level = levelInput(own ? own.levels : levels);
    return runtime.run(model.file, { image: tile, level }, model.gpu);
  }
  const level = { data: own.plane, dims: own.dims };
  return runtime.run(model.mapFile, { image: tile, level }, model.gpu);
}

/**
 * Restores an image; or, given an earlier result, only what a change of the mask in `box` affects.
 */
async function restore({ id, image, levels, model, mask, box, before }) {
  await runtime.session(model.file, model.gpu);
  if (id !== newest) return;
  const start = performance.now();
  const input = model.enlarges ? enlarge(image, levels[0]) : image;
  // Starts from the input to keep transparency.
  const output = { ...input, data: before ?? new Uint8ClampedArray(input.data) };
  const { width, height } = input;
  const seen = box && grown(box, model.margin, width, height);
  const side = seen ? PAINTED_TILE : TILE;
  const parts = tiles(width, height, { side, margin: model.margin, box: seen });
  const tables = mask && levelsOfMask(levels, model.axes);
  for (const [index, part] of parts.entries()) {
    const restored = await apply(model, input, levels, part, mask, tables);
    paste(restored, part, output, { mask, before: input.data });
    // Lets a newer request be received.
    await new Promise((resolve) => setTimeout(resolve));
    if (id !== newest) return;
    postMessage({ id, kind: "progress", done: index + 1, total: parts.length });
  }
  const seconds = (performance.now() - start) / 1000;
  const answer = { id, kind: "done", input, output, seconds, by: await runtime.name(model.gpu) };
  postMessage(answer, [output.data.buffer]);
}

async function estimate({ id, image, model }) {
  const pixels = planes(image, middle(image.width, image.height));
  const levels = await runtime.run(model.estimator, { image: pixels }, false);
  postMessage({ id, kind: "estimated", levels: Array.from(levels) });
}

onmessage = ({ data: request }) => {
  newest = request.id;
  queue = queue.then(async () => {
    if (request.id !== newest) return;
    try {
      await (request.kind === "estimate" ? estimate(request) : restore(request));
    } catch (error) {
      postMessage({ id: request.id, kind: "failed", reason: String(error.message ?? error) });
    }
  });
};
