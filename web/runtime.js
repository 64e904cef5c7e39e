// ONNX Runtime in the browser: on the GPU if there is one, otherwise as WebAssembly.

const BASE = new URL("./ort/", import.meta.url).href;

/** The runtime on the GPU; null if there is none, or only a software fallback. */
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
  // Threads need shared memory, which only isolated pages may use.
  const threads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1;
  ort.env.wasm.numThreads = threads;
  const counted = threads > 1 ? `${threads} threads` : "1 thread";
  return { ort, provider: "wasm", name: `WebAssembly, ${counted}` };
}

/** Loads and runs models; each is loaded once. */
export class Runtime {
  /** @param {string | null} wanted "webgpu" or "wasm"; null: the best available. */
  constructor(wanted) {
    this.sessions = new Map();
    this.loading = onGpu(wanted).then((gpu) => gpu ?? onCpu());
  }

  /** The name of what runs a model. */
  async name(gpu = true) {
    const { name, provider } = await this.loading;
    return gpu || provider === "wasm" ? name : "WebAssembly";
  }

  /**
   * A session for a model file; if the GPU cannot run it, all models switch to the CPU.
   * @param {boolean} gpu whether this model may run on the GPU.
   */
  async session(file, gpu = true) {
    const { ort, provider } = await this.loading;
    if (!this.sessions.has(file)) {
      const address = new URL(file, import.meta.url).href;
      const executionProviders = [gpu ? provider : "wasm"];
      const made = ort.InferenceSession.create(address, { executionProviders });
      made.catch(() => this.sessions.delete(file)); // lets the next request try again
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

  /** Runs a model on inputs {name: {data, dims}}; returns its only output, as floats. */
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
