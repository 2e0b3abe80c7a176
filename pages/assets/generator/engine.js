// The generator as an asynchronous function. While it works, the newest inputs wait, and those that must not be lost.
"use strict";

/** Return {start(inputs), run(inputs, isKept)} of a worker; run gives null for inputs that newer ones replaced. */
function makeEngine() {
  const worker = new Worker("worker.js", { type: "module" });
  const calls = new Map();
  let number = 0;
  let busy = false;
  let newest = null; // goes first
  const kept = [];

  worker.onmessage = ({ data: { id, error, ...answer } }) => {
    const { resolve, reject } = calls.get(id) ?? {};
    if (!calls.delete(id)) return; // it has failed already
    if (error === undefined) resolve(answer);
    else reject(new Error(error));
  };
  worker.onerror = (event) => {
    for (const { reject } of calls.values()) reject(new Error(event.message || "worker.js cannot be loaded"));
    calls.clear();
  };

  function ask(call, argument) {
    return new Promise((resolve, reject) => {
      calls.set(++number, { resolve, reject });
      worker.postMessage({ id: number, call, argument });
    });
  }

  async function run(inputs, isKept = false) {
    if (busy) {
      const goes = await new Promise((resolve) => {
        if (isKept) kept.push(resolve);
        else {
          newest?.(false);
          newest = resolve;
        }
      });
      if (!goes) return null;
    }
    busy = true;
    try {
      return await ask("run", inputs);
    } finally {
      const next = newest ?? kept.shift();
      newest = null;
      if (next) next(true);
      else busy = false;
    }
  }

  const folder = new URL("runtime/", document.baseURI).href;
  return { run, start: (inputs) => ask("start", { folder, inputs }) };
}
