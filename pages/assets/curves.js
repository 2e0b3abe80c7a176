// Draw losses over epochs for one run or several, with hover values, smoothing, log scale, zoom and choice of losses.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["#1f77d0", "#e8590c", "#2b9348", "#c2255c", "#7048e8", "#b08900", "#0c8599", "#868e96", "#d6336c", "#5c7c0a"];
const DASHES = ["", "6 3", "2 3", "8 3 2 3"];  // one pattern per run
const EDGE = { left: 64, right: 20, top: 10, bottom: 44 };  // pixels around the plot
const EPOCH_AXIS = "epoch (1.5: half of the first is done)";  // as displays/loss_log.py has it

function makeSvg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/* Return the exponential moving average without start-up bias; gaps (null) stay gaps. */
function smoothValues(values, weight) {
  let mean = 0, weightSum = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    weightSum = weight * weightSum + (1 - weight);
    return mean / weightSum;
  });
}

/* Return about `count` round numbers from low to high. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((s) => s >= rough) ?? rough;
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) values.push(i * step);
  return values;
}

function logTicks(low, high) {
  const values = [];
  for (let p = Math.ceil(low - 1e-9); p <= high + 1e-9; p++) values.push(p);
  return values.length > 1 ? values : ticks(low, high, 4);
}

function nearestIndex(sorted, wanted) {
  let low = 0, high = sorted.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < wanted) low = middle; else high = middle;
  }
  return Math.abs(sorted[low] - wanted) <= Math.abs(sorted[high] - wanted) ? low : high;
}

let chartCount = 0;

class Curves {
  /* host: an element; hidden: names of curves that are hidden at first; smoothing: its weight at first; axis: title of
     the horizontal axis, EPOCH_AXIS or "epoch" for values at the ends of epochs. */
  constructor(host, hidden = [], smoothing = 0.6, axis = EPOCH_AXIS) {
    this.axis = axis;
    this.hidden = new Set(hidden);
    this.clip = `inside${++chartCount}`;  // several charts of other sizes may be on one page
    this.runs = [];
    this.zoom = null;  // [from, to] in epochs
    this.svg = makeSvg("svg", { class: "plot", role: "img", tabindex: 0, "aria-label": "losses over epochs" });
    this.tooltip = make("div", { class: "told", hidden: "" });
    this.legend = make("div", { class: "legend", role: "group", "aria-label": "losses shown" });
    this.smoothing = make("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: smoothing });
    this.log = make("input", { type: "checkbox" });
    this.reset = make("button", { type: "button", hidden: "" }, "whole run");
    const tools = make("div", { class: "tools" }, make("label", {}, "smoothing ", this.smoothing),
      make("label", {}, this.log, " log scale"), this.reset);
    host.append(tools, make("div", { class: "plotbox" }, this.svg, this.tooltip), this.legend);
    this.smoothing.addEventListener("input", () => this.draw());
    this.log.addEventListener("change", () => this.draw());
    this.reset.addEventListener("click", () => { this.zoom = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.listen();
  }

  /* runs: [{name, x: [epoch], lines: {loss: [value or null]}, marks: {loss: [epoch, value]}}]; marks may be missing */
  show(runs) {
    this.runs = runs.filter((run) => run.x.length);
    this.names = [...new Set(this.runs.flatMap((run) => Object.keys(run.lines)))];
    this.updateLegend();
    this.draw();
  }

  colour(name) { return COLOURS[this.names.indexOf(name) % COLOURS.length]; }

  updateLegend() {
    if (this.legendKey === this.names.join("\n")) return;
    this.legendKey = this.names.join("\n");
    this.legend.replaceChildren(...this.names.map((name) => {
      const box = make("input", { type: "checkbox" });
      box.checked = !this.hidden.has(name);
      box.addEventListener("change", () => { this.hidden[box.checked ? "delete" : "add"](name); this.draw(); });
      const swatch = make("span", { class: "swatch" });
      swatch.style.background = this.colour(name);
      return make("label", {}, box, swatch, name);
    }));
    if (this.runs.length > 1) {
      this.legend.append(...this.runs.map((run, i) => make("span", { class: "run" }, `${["———", "– – –", "· · ·", "– · –"][i % 4]} ${run.name}`)));
    }
  }

  /* Return the curves to draw, in the units of the axes. */
  lines() {
    const log = this.log.checked, weight = Number(this.smoothing.value);
    const height = (v) => (v === null || (log && v <= 0) ? null : log ? Math.log10(v) : v);
    return this.runs.flatMap((run, number) => Object.entries(run.lines)
      .filter(([name]) => !this.hidden.has(name))
      .map(([name, raw]) => ({ name, number, x: run.x, raw: raw.map(height), y: smoothValues(raw, weight).map(height) })));
  }

  scales(lines) {
    const box = this.svg.getBoundingClientRect();
    const ends = this.runs.map((run) => [run.x[0], run.x[run.x.length - 1]]);
    let [from, to] = this.zoom ?? [Math.min(...ends.map((e) => e[0])), Math.max(...ends.map((e) => e[1]))];
    if (to <= from) to = from + 1;
    let low = Infinity, high = -Infinity;
    for (const line of lines) {
      line.y.forEach((v, i) => {
        if (v !== null && line.x[i] >= from && line.x[i] <= to) { low = Math.min(low, v); high = Math.max(high, v); }
      });
    }
    if (!(high >= low)) [low, high] = [0, 1];
    const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    [low, high] = [low - room, high + room];
    const inner = { width: Math.max(10, box.width - EDGE.left - EDGE.right), height: Math.max(10, box.height - EDGE.top - EDGE.bottom) };
    return {
      from, to, low, high, box, inner,
      x: (v) => EDGE.left + ((v - from) / (to - from)) * inner.width,
      y: (v) => EDGE.top + (1 - (v - low) / (high - low)) * inner.height,
      toEpoch: (pixel) => from + ((pixel - EDGE.left) / inner.width) * (to - from),
    };
  }

  draw() {
    if (!this.runs.length) return;
    const lines = this.lines(), scale = (this.scale = this.scales(lines));
    this.svg.setAttribute("viewBox", `0 0 ${scale.box.width} ${scale.box.height}`);
    const inside = makeSvg("clipPath", { id: this.clip });
    inside.append(makeSvg("rect", { x: EDGE.left, y: EDGE.top, width: scale.inner.width, height: scale.inner.height }));
    this.cursor = makeSvg("line", { class: "cursor", y1: EDGE.top, y2: EDGE.top + scale.inner.height, visibility: "hidden" });
    this.band = makeSvg("rect", { class: "band", y: EDGE.top, height: scale.inner.height, visibility: "hidden" });
    const curves = makeSvg("g", { "clip-path": `url(#${this.clip})` }), marks = [];
    for (const line of lines) {
      const look = { stroke: this.colour(line.name), fill: "none", "stroke-dasharray": DASHES[line.number % 4] };
      if (Number(this.smoothing.value) > 0) curves.append(makeSvg("path", { ...look, class: "raw", d: this.path(line.x, line.raw) }));
      curves.append(makeSvg("path", { ...look, class: "curve", "data-loss": line.name, "data-run": line.number, d: this.path(line.x, line.y) }));
      const mark = this.runs[line.number].marks?.[line.name];
      if (mark && mark[0] >= scale.from && mark[0] <= scale.to) marks.push(this.mark(line.name, mark));
    }
    this.svg.replaceChildren(inside, ...this.axes(), this.band, curves, ...marks, this.cursor);
    this.drawnLines = lines;
    this.reset.hidden = !this.zoom;
  }

  /* Return a dot at the best value of a curve. */
  mark(name, [x, value]) {
    const y = this.log.checked ? Math.log10(value) : value;
    const dot = makeSvg("circle", { class: "mark", r: 5, cx: this.scale.x(x), cy: this.scale.y(y), fill: this.colour(name), "data-loss": name });
    const title = makeSvg("title", {});
    title.textContent = `best: ${formatNumber(value)} in epoch ${x}`;
    dot.append(title);
    return dot;
  }

  path(x, y) {
    let text = "", pen = "M";
    for (let i = 0; i < x.length; i++) {
      if (y[i] === null) { pen = "M"; continue; }
      text += `${pen}${this.scale.x(x[i]).toFixed(1)} ${this.scale.y(y[i]).toFixed(1)}`;
      pen = "L";
    }
    return text;
  }

  axes() {
    const scale = this.scale, log = this.log.checked, elements = [];
    const label = (text, position) => { const t = makeSvg("text", position); t.textContent = text; elements.push(t); };
    for (const v of log ? logTicks(scale.low, scale.high) : ticks(scale.low, scale.high, 5)) {
      elements.push(makeSvg("line", { class: "grid", x1: EDGE.left, x2: EDGE.left + scale.inner.width, y1: scale.y(v), y2: scale.y(v) }));
      label(formatNumber(log ? 10 ** v : v), { x: EDGE.left - 8, y: scale.y(v) + 4, "text-anchor": "end" });
    }
    for (const v of ticks(scale.from, scale.to, Math.max(2, scale.inner.width / 90))) {
      elements.push(makeSvg("line", { class: "grid", x1: scale.x(v), x2: scale.x(v), y1: EDGE.top, y2: EDGE.top + scale.inner.height }));
      label(formatNumber(v), { x: scale.x(v), y: scale.box.height - 26, "text-anchor": "middle" });
    }
    label(this.axis, { class: "title", x: EDGE.left + scale.inner.width / 2, y: scale.box.height - 8, "text-anchor": "middle" });
    return elements;
  }

  listen() {
    const position = (event) => event.clientX - this.svg.getBoundingClientRect().left;
    this.svg.addEventListener("pointermove", (event) => { this.drag(position(event)); this.showValues(this.scale?.toEpoch(position(event))); });
    this.svg.addEventListener("pointerleave", () => this.showValues(null));
    this.svg.addEventListener("pointerdown", (event) => { this.dragStart = position(event); });
    window.addEventListener("pointerup", (event) => this.release(position(event)));
    this.svg.addEventListener("dblclick", () => { this.zoom = null; this.draw(); });
    this.svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !this.runs.length) return;
      event.preventDefault();
      const x = this.runs[0].x;
      this.epochIndex = Math.min(x.length - 1, Math.max(0, (this.epochIndex ?? x.length) + step));
      this.showValues(x[this.epochIndex]);
    });
  }

  drag(pixel) {
    if (this.dragStart === undefined || !this.scale) return;
    this.band.setAttribute("x", Math.min(pixel, this.dragStart));
    this.band.setAttribute("width", Math.abs(pixel - this.dragStart));
    this.band.setAttribute("visibility", "visible");
  }

  release(pixel) {
    if (this.dragStart === undefined || !this.scale) return;
    const ends = [this.scale.toEpoch(Math.min(pixel, this.dragStart)), this.scale.toEpoch(Math.max(pixel, this.dragStart))];
    if (Math.abs(pixel - this.dragStart) > 8) this.zoom = ends;
    this.dragStart = undefined;
    this.draw();
  }

  /* Show the values at an epoch; null hides them. */
  showValues(epoch) {
    this.tooltip.hidden = epoch === null || epoch === undefined || !this.drawnLines?.length;
    this.cursor?.setAttribute("visibility", this.tooltip.hidden ? "hidden" : "visible");
    if (this.tooltip.hidden) return;
    const rows = this.drawnLines.map((line) => {
      const i = nearestIndex(line.x, epoch), raw = this.runs[line.number].lines[line.name][i];
      const swatch = make("span", { class: "swatch" });
      swatch.style.background = this.colour(line.name);
      const run = this.runs.length > 1 ? `${this.runs[line.number].name} ` : "";
      return make("div", {}, swatch, `${run}${line.name} `, make("b", {}, raw === null ? "no number" : formatNumber(raw)));
    });
    const x = this.drawnLines[0].x[nearestIndex(this.drawnLines[0].x, epoch)];
    const when = this.axis === EPOCH_AXIS ? `epoch ${x.toFixed(2)} (${(x - 1).toFixed(2)} done)` : `epoch ${x}`;
    this.tooltip.replaceChildren(make("div", {}, when), ...rows);
    this.cursor.setAttribute("x1", this.scale.x(x));
    this.cursor.setAttribute("x2", this.scale.x(x));
    const left = this.scale.x(x) < this.scale.box.width / 2;
    this.tooltip.style.left = left ? `${this.scale.x(x) + 12}px` : "auto";
    this.tooltip.style.right = left ? "auto" : `${this.scale.box.width - this.scale.x(x) + 12}px`;
  }
}
