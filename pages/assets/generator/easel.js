// A canvas to draw on: pencil, eraser, fill, colours, undo.
"use strict";

const MAX_UNDO = 40;
const MAX_UNDO_BYTES = 128e6;
const NEAR = 96; // largest difference of a channel within an area that is filled, where edges are smooth

/**
 * Return an easel of a size. colours: [[r, g, b], ...], the first one is the paper. isLabelMap: strokes have exact
 * colours, without blended edges. changed() is called after changes.
 */
function makeEasel(width, height, colours, isLabelMap, changed) {
  const canvas = make("canvas", { width, height, class: "easel", tabindex: 0, role: "img", "aria-label": "Your drawing" });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const state = { tool: "pencil", colour: colours[1] ?? colours[0], size: isLabelMap ? 7 : 2 };
  const [undone, done] = [[], []];
  let last = null;
  let finger = null; // the pointer that draws

  const paint = () => (state.tool === "eraser" ? colours[0] : state.colour);
  const snapshot = () => context.getImageData(0, 0, canvas.width, canvas.height);

  function remember() {
    done.push(snapshot());
    const most = Math.max(2, Math.min(MAX_UNDO, MAX_UNDO_BYTES / (4 * canvas.width * canvas.height)));
    while (done.length > most) done.shift();
    undone.length = 0;
  }

  /** Show an ImageData, of any size. */
  function put(image) {
    if (canvas.width !== image.width || canvas.height !== image.height) {
      [canvas.width, canvas.height] = [image.width, image.height];
    }
    context.putImageData(image, 0, 0);
    changed();
  }

  function step(from, to) {
    if (!from.length) return;
    to.push(snapshot());
    put(from.pop());
  }

  function place(event) {
    const box = canvas.getBoundingClientRect(); // the canvas lies in its middle, with margins at two sides
    const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
    return [(event.clientX - box.left - box.width / 2) / scale + canvas.width / 2,
      (event.clientY - box.top - box.height / 2) / scale + canvas.height / 2];
  }

  /** Fill a disc's pixels exactly, so that a label map has no blended colours. */
  function disc(x, y) {
    const radius = state.size / 2;
    for (let row = Math.floor(y - radius); row <= y + radius; row++) {
      const half = Math.sqrt(Math.max(0, radius * radius - (row + 0.5 - y) ** 2));
      const [left, right] = [Math.round(x - half), Math.round(x + half)];
      if (right > left) context.fillRect(left, row, right - left, 1);
    }
  }

  function stroke(from, to) {
    const colour = `rgb(${paint().join()})`;
    [context.fillStyle, context.strokeStyle] = [colour, colour];
    if (isLabelMap) {
      const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])));
      for (let i = 0; i <= steps; i++) disc(from[0] + ((to[0] - from[0]) * i) / steps, from[1] + ((to[1] - from[1]) * i) / steps);
    } else {
      [context.lineWidth, context.lineCap, context.lineJoin] = [state.size, "round", "round"];
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(to[0] + 0.01, to[1]);
      context.stroke();
    }
  }

  /** Fill the area of like colour around a point. */
  function fill([x, y]) {
    const image = snapshot();
    const { data, width: w, height: h } = image;
    const start = Math.floor(y) * w + Math.floor(x);
    const old = [...data.slice(4 * start, 4 * start + 3)];
    if (x < 0 || y < 0 || x >= w || y >= h) return;
    const near = isLabelMap ? 0 : NEAR;
    const alike = (i) => old.every((value, channel) => Math.abs(data[4 * i + channel] - value) <= near);
    const seen = new Uint8Array(w * h);
    const open = [start];
    while (open.length) {
      const i = open.pop();
      if (seen[i] || !alike(i)) continue;
      seen[i] = 1;
      if (i % w) open.push(i - 1);
      if ((i + 1) % w) open.push(i + 1);
      if (i >= w) open.push(i - w);
      if (i + w < w * h) open.push(i + w);
    }
    seen.forEach((inside, i) => { if (inside) data.set(paint(), 4 * i); });
    put(image);
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || finger !== null) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    remember();
    if (state.tool === "fill") {
      fill(place(event));
      return;
    }
    canvas.setPointerCapture(event.pointerId);
    finger = event.pointerId;
    last = place(event);
    stroke(last, last);
    changed();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== finger) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) {
      const now = place(part);
      stroke(last, now);
      last = now;
    }
    changed();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { finger = null; });

  /** Return a sheet of paper. */
  function paper() {
    const image = new ImageData(canvas.width, canvas.height);
    for (let i = 0; i < canvas.width * canvas.height; i++) image.data.set([...colours[0], 255], 4 * i);
    return image;
  }

  put(paper());
  return {
    canvas, state, remember, pixels: snapshot,
    show: (image) => { remember(); put(image); },
    watch: put, // without a memory of each frame
    clear: () => { remember(); put(paper()); },
    undo: () => step(done, undone),
    redo: () => step(undone, done),
  };
}
