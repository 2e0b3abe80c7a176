// Curves of losses over epochs, of one run or several: hover values, smoothing, log scale, zoom, choice of losses.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["#1f77d0", "#e8590c", "#2b9348", "#c2255c", "#7048e8", "#b08900", "#0c8599", "#868e96", "#d6336c", "#5c7c0a"];
const DASHES = ["", "6 3", "2 3", "8 3 2 3"];  // one for each run
const EDGE = { left: 64, right: 20, top: 10, bottom: 28 };  // pixels around the plot

function drawn(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/* An exponential moving average that starts unbiased; gaps stay gaps. */
function smoothed(values, weight) {
  let mean = 0, share = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return mean / share;
  });
}

/* About `count` round numbers from low to high. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((s) => s >= rough) ?? rough;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let p = Math.ceil(low - 1e-9); p <= high + 1e-9; p++) found.push(p);
  return found.length > 1 ? found : ticks(low, high, 4);
}

function nearest(sorted, wanted) {
  let low = 0, high = sorted.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < wanted) low = middle; else high = middle;
  }
  return Math.abs(sorted[low] - wanted) <= Math.abs(sorted[high] - wanted) ? low : high;
}

class Curves {
  /* host: an empty element. `hidden`: names of lines that are off at first. */
  constructor(host, hidden = []) {
    this.hidden = new Set(hidden);
    this.runs = [];
    this.zoom = null;  // [from, to] in epochs
    this.svg = drawn("svg", { class: "plot", role: "img", tabindex: 0, "aria-label": "losses over epochs" });
    this.told = make("div", { class: "told", hidden: "" });
    this.legend = make("div", { class: "legend", role: "group", "aria-label": "losses shown" });
    this.smooth = make("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: 0.6 });
    this.log = make("input", { type: "checkbox" });
    this.reset = make("button", { type: "button", hidden: "" }, "whole run");
    const tools = make("div", { class: "tools" }, make("label", {}, "smoothing ", this.smooth),
      make("label", {}, this.log, " log scale"), this.reset);
    host.append(tools, make("div", { class: "plotbox" }, this.svg, this.told), this.legend);
    this.smooth.addEventListener("input", () => this.draw());
    this.log.addEventListener("change", () => this.draw());
    this.reset.addEventListener("click", () => { this.zoom = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.listen();
  }

  /* runs: [{name, x: [epoch], lines: {loss: [value or null]}}] */
  show(runs) {
    this.runs = runs.filter((run) => run.x.length);
    this.names = [...new Set(this.runs.flatMap((run) => Object.keys(run.lines)))];
    this.choices();
    this.draw();
  }

  colour(name) { return COLOURS[this.names.indexOf(name) % COLOURS.length]; }

  choices() {
    if (this.listed === this.names.join("\n")) return;
    this.listed = this.names.join("\n");
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

  /* What is to be drawn, in the units of the axes. */
  lines() {
    const log = this.log.checked, weight = Number(this.smooth.value);
    const height = (v) => (v === null || (log && v <= 0) ? null : log ? Math.log10(v) : v);
    return this.runs.flatMap((run, number) => Object.entries(run.lines)
      .filter(([name]) => !this.hidden.has(name))
      .map(([name, raw]) => ({ name, number, x: run.x, raw: raw.map(height), y: smoothed(raw, weight).map(height) })));
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
      back: (pixel) => from + ((pixel - EDGE.left) / inner.width) * (to - from),
    };
  }

  draw() {
    if (!this.runs.length) return;
    const lines = this.lines(), at = (this.at = this.scales(lines));
    this.svg.setAttribute("viewBox", `0 0 ${at.box.width} ${at.box.height}`);
    const inside = drawn("clipPath", { id: "inside" });
    inside.append(drawn("rect", { x: EDGE.left, y: EDGE.top, width: at.inner.width, height: at.inner.height }));
    this.cursor = drawn("line", { class: "cursor", y1: EDGE.top, y2: EDGE.top + at.inner.height, visibility: "hidden" });
    this.band = drawn("rect", { class: "band", y: EDGE.top, height: at.inner.height, visibility: "hidden" });
    const curves = drawn("g", { "clip-path": "url(#inside)" });
    for (const line of lines) {
      const look = { stroke: this.colour(line.name), fill: "none", "stroke-dasharray": DASHES[line.number % 4] };
      if (Number(this.smooth.value) > 0) curves.append(drawn("path", { ...look, class: "raw", d: this.path(line.x, line.raw) }));
      curves.append(drawn("path", { ...look, class: "curve", "data-loss": line.name, "data-run": line.number, d: this.path(line.x, line.y) }));
    }
    this.svg.replaceChildren(inside, ...this.axes(), this.band, curves, this.cursor);
    this.shown = lines;
    this.reset.hidden = !this.zoom;
  }

  path(x, y) {
    let text = "", pen = "M";
    for (let i = 0; i < x.length; i++) {
      if (y[i] === null) { pen = "M"; continue; }
      text += `${pen}${this.at.x(x[i]).toFixed(1)} ${this.at.y(y[i]).toFixed(1)}`;
      pen = "L";
    }
    return text;
  }

  axes() {
    const at = this.at, log = this.log.checked, found = [];
    const label = (text, place) => { const t = drawn("text", place); t.textContent = text; found.push(t); };
    for (const v of log ? logTicks(at.low, at.high) : ticks(at.low, at.high, 5)) {
      found.push(drawn("line", { class: "grid", x1: EDGE.left, x2: EDGE.left + at.inner.width, y1: at.y(v), y2: at.y(v) }));
      label(brief(log ? 10 ** v : v), { x: EDGE.left - 8, y: at.y(v) + 4, "text-anchor": "end" });
    }
    for (const v of ticks(at.from, at.to, Math.max(2, at.inner.width / 90))) {
      found.push(drawn("line", { class: "grid", x1: at.x(v), x2: at.x(v), y1: EDGE.top, y2: EDGE.top + at.inner.height }));
      label(brief(v), { x: at.x(v), y: at.box.height - 8, "text-anchor": "middle" });
    }
    label("epoch", { class: "title", x: EDGE.left - 8, y: at.box.height - 8, "text-anchor": "end" });
    return found;
  }

  listen() {
    const place = (event) => event.clientX - this.svg.getBoundingClientRect().left;
    this.svg.addEventListener("pointermove", (event) => { this.drag(place(event)); this.tell(this.at?.back(place(event))); });
    this.svg.addEventListener("pointerleave", () => this.tell(null));
    this.svg.addEventListener("pointerdown", (event) => { this.pressed = place(event); });
    window.addEventListener("pointerup", (event) => this.release(place(event)));
    this.svg.addEventListener("dblclick", () => { this.zoom = null; this.draw(); });
    this.svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !this.runs.length) return;
      event.preventDefault();
      const x = this.runs[0].x;
      this.index = Math.min(x.length - 1, Math.max(0, (this.index ?? x.length) + step));
      this.tell(x[this.index]);
    });
  }

  drag(pixel) {
    if (this.pressed === undefined || !this.at) return;
    this.band.setAttribute("x", Math.min(pixel, this.pressed));
    this.band.setAttribute("width", Math.abs(pixel - this.pressed));
    this.band.setAttribute("visibility", "visible");
  }

  release(pixel) {
    if (this.pressed === undefined || !this.at) return;
    const ends = [this.at.back(Math.min(pixel, this.pressed)), this.at.back(Math.max(pixel, this.pressed))];
    if (Math.abs(pixel - this.pressed) > 8) this.zoom = ends;
    this.pressed = undefined;
    this.draw();
  }

  /* Show the values at an epoch; null: nothing. */
  tell(epoch) {
    this.told.hidden = epoch === null || epoch === undefined || !this.shown?.length;
    this.cursor?.setAttribute("visibility", this.told.hidden ? "hidden" : "visible");
    if (this.told.hidden) return;
    const rows = this.shown.map((line) => {
      const i = nearest(line.x, epoch), raw = this.runs[line.number].lines[line.name][i];
      const swatch = make("span", { class: "swatch" });
      swatch.style.background = this.colour(line.name);
      const run = this.runs.length > 1 ? `${this.runs[line.number].name} ` : "";
      return make("div", {}, swatch, `${run}${line.name} `, make("b", {}, raw === null ? "no number" : brief(raw)));
    });
    const x = this.shown[0].x[nearest(this.shown[0].x, epoch)];
    this.told.replaceChildren(make("div", {}, `epoch ${x.toFixed(2)}`), ...rows);
    this.cursor.setAttribute("x1", this.at.x(x));
    this.cursor.setAttribute("x2", this.at.x(x));
    const left = this.at.x(x) < this.at.box.width / 2;
    this.told.style.left = left ? `${this.at.x(x) + 12}px` : "auto";
    this.told.style.right = left ? "auto" : `${this.at.box.width - this.at.x(x) + 12}px`;
  }
}
