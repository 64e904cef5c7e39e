// Restores images off the page's thread; the newest request supersedes an unfinished one.

import * as ort from "./ort/ort.wasm.min.mjs";
import { enlarge, paste, planes, tiles } from "./pixels.js";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
// Threads need headers that a plain static host does not send.
if (!self.crossOriginIsolated) ort.env.wasm.numThreads = 1;

const TILE = 256;
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

async function restore({ id, image, level, model }) {
  const network = await session(model.file);
  if (id !== newest) return;
  const start = performance.now();
  const input = model.enlarges ? enlarge(image, level) : image;
  const output = { ...input, data: new Uint8ClampedArray(input.data) }; // transparency is kept
  const parts = tiles(input.width, input.height, { side: TILE, margin: model.margin });
  for (const [index, part] of parts.entries()) {
    const { data, dims } = planes(input, part);
    const { restored } = await network.run({
      image: new ort.Tensor("float32", data, dims),
      level: new ort.Tensor("float32", [level], []),
    });
    paste(restored.data, part, output);
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
