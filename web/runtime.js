// ONNX Runtime in this browser: on its GPU where it has one, else as WebAssembly.

const BASE = new URL("./ort/", import.meta.url).href;

/** The runtime on the GPU, or null where there is none but an imitation of one. */
async function onGpu(wanted) {
  if (wanted === "wasm" || !navigator.gpu) return null;
  try {
    const adapter = await navigator.gpu.requestAdapter();
    if (!adapter || (adapter.info?.isFallbackAdapter && wanted !== "webgpu")) return null;
    const ort = await import("./ort/ort.webgpu.min.mjs");
    ort.env.wasm.wasmPaths = BASE;
    return { ort, provider: "webgpu", name: "WebGPU" };
  } catch {
    return null;
  }
}

async function onCpu() {
  const ort = await import("./ort/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = BASE;
  // Threads share memory, which pages may only do that are isolated from others.
  const threads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1;
  ort.env.wasm.numThreads = threads;
  const counted = threads > 1 ? `${threads} threads` : "1 thread";
  return { ort, provider: "wasm", name: `WebAssembly, ${counted}` };
}

/** Loads models and runs them, each once loaded. */
export class Runtime {
  /** @param {string | null} wanted "webgpu" or "wasm"; whichever is the best if null. */
  constructor(wanted) {
    this.sessions = new Map();
    this.loading = onGpu(wanted).then((gpu) => gpu ?? onCpu());
  }

  /** What computes a model. */
  async name(gpu = true) {
    const { name, provider } = await this.loading;
    return gpu || provider === "wasm" ? name : "WebAssembly";
  }

  /**
   * A session of a model file; where the GPU cannot run it, all goes on without the GPU.
   * @param {boolean} gpu whether it may be run there at all.
   */
  async session(file, gpu = true) {
    const { ort, provider } = await this.loading;
    if (!this.sessions.has(file)) {
      const address = new URL(file, import.meta.url).href;
      const executionProviders = [gpu ? provider : "wasm"];
      const made = ort.InferenceSession.create(address, { executionProviders });
      made.catch(() => this.sessions.delete(file)); // so that the next request tries again
      this.sessions.set(file, made);
    }
    try {
      return await this.sessions.get(file);
    } catch (error) {
      if (provider === "wasm") throw error;
      this.sessions.clear();
      this.loading = onCpu();
      return this.session(file, gpu);
    }
  }

  /** The only output of a model for inputs {name: {data, dims}}; floats. */
  async run(file, inputs, gpu = true) {
    const session = await this.session(file, gpu);
    const { ort } = await this.loading;
    const tensors = Object.entries(inputs).map(([name, { data, dims }]) => [
      name,
      new ort.Tensor("float32", data instanceof Float32Array ? data : Float32Array.from(data), dims),
    ]);
    const outputs = await session.run(Object.fromEntries(tensors));
    const [output] = Object.values(outputs);
    const data = (await output.getData()).slice();
    output.dispose();
    return data;
  }
}
