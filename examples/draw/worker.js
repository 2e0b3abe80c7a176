// Runs the generator in a worker, with ONNX Runtime: on WebGPU if there is one that computes the same, else on the CPU.
"use strict";

const MAX_DIFFERENCE = 2 / 255; // of values in [-1, 1]: one grey level
let runtime = null;
let session = null;

async function hasAdapter() {
  try {
    return Boolean(await navigator.gpu?.requestAdapter());
  } catch {
    return false;
  }
}

/** Load the runtime and the generator; return what computes, "WebGPU" or "CPU". */
async function start({ folder, inputs }) {
  const gpu = await hasAdapter();
  runtime = await import(new URL(gpu ? "ort.webgpu.min.mjs" : "ort.wasm.min.mjs", folder));
  runtime.env.wasm.wasmPaths = folder;
  runtime.env.wasm.numThreads = 1;
  const response = await fetch("generator.onnx");
  if (!response.ok) throw new Error(`generator.onnx: ${response.status}`);
  const model = new Uint8Array(await response.arrayBuffer());
  session = await runtime.InferenceSession.create(model, { executionProviders: ["wasm"] });
  if (!gpu) return "CPU";
  try {
    const fast = await runtime.InferenceSession.create(model, { executionProviders: ["webgpu"] });
    const [one, two] = [await run(inputs, session), await run(inputs, fast)];
    if (one.data.every((value, i) => Math.abs(value - two.data[i]) <= MAX_DIFFERENCE)) {
      session.release();
      session = fast;
      return "WebGPU";
    }
  } catch (problem) {
    console.warn("WebGPU is not used:", problem);
  }
  return "CPU";
}

/** Return the picture {data, dims} that inputs {name: {type, data, dims}} give. */
async function run(inputs, on = session) {
  const feeds = {};
  for (const name of on.inputNames) {
    const { type, data, dims } = inputs[name];
    feeds[name] = new runtime.Tensor(type, data, dims);
  }
  const { picture } = await on.run(feeds);
  return { data: await picture.getData(), dims: picture.dims };
}

onmessage = async ({ data: { id, call, argument } }) => {
  const begun = performance.now();
  try {
    const value = await { start, run }[call](argument);
    postMessage({ id, value, milliseconds: performance.now() - begun });
  } catch (problem) {
    postMessage({ id, error: String(problem?.message ?? problem) });
  }
};
