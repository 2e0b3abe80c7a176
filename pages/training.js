// The training page: takes the newest history beside it every few seconds and shows it, without reloading.
"use strict";

const HEAD = JSON.parse(document.getElementById("data").textContent);
const PER_PAGE = 20;  // epochs
const SAMPLE = 160;  // pixels: the width of a fixed sample, at most
let told = HEAD.history;  // the newest that is known
let chart, first = 0, chosen = null, playing = null;

const byId = (id) => document.getElementById(id);
const epochName = (epoch) => String(epoch).padStart(3, "0");

function picture(source, label, width) {
  const image = make("img", { src: source, alt: shown(label), loading: "lazy", decoding: "async" });
  if (width) image.style.width = `${width}px`;
  return make("a", { href: source }, image);
}

function cell(file, label, width) {
  return make("td", {}, picture(address("images/", file), label, width), make("p", {}, shown(label)));
}

/* --- where the run stands */

const WORDS = { training: "training", done: "done", stopped: "stopped", saved: "stopped" };

function stands() {
  const ago = Date.now() / 1000 - told.updated;
  const quiet = told.state === "training" && ago > Math.max(120, 20 * told.interval);
  const state = quiet ? `no news for ${duration(ago)}: killed, or a long step` : WORDS[told.state];
  byId("state").textContent = `epoch ${told.epoch} of ${told.last_epoch}, step ${told.step.toLocaleString("en")}: ${state}`;
  byId("updated").textContent = [`updated ${new Date(told.updated * 1000).toLocaleString()}`, told.left && `about ${duration(told.left)} to go`,
    told.lr && `learning rate ${brief(told.lr)}`, told.spent].filter(Boolean).join(" · ");
  byId("progress").value = told.share;
  byId("notes").replaceChildren(...told.notes.map(([name, evidence, advice]) =>
    make("li", {}, make("b", {}, `${name}: `), `${evidence}; ${advice}.`)));
  byId("health").hidden = !told.notes.length;
}

function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  return minutes < 1 ? `${Math.round(seconds)} s` : minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/* --- fixed samples */

function samples() {
  const epochs = told.samples.epochs;
  byId("samples").hidden = !epochs.length;
  if (!epochs.length) return;
  const slider = byId("epoch"), last = epochs.length - 1;
  const follow = chosen === null || Number(slider.value) === Number(slider.max);
  slider.max = last;
  if (follow) { slider.value = last; chosen = epochs[last]; }
  byId("epochs").replaceChildren(...epochs.map((e, i) => make("option", { value: i, label: e })));
  fill();
}

/* The newest epoch, up to the chosen one, at which this label was drawn: what never changes is kept once. */
function drawnAt(epochs) {
  return epochs.filter((e) => e <= chosen).pop() ?? epochs[0];
}

function fill() {
  byId("chosen").textContent = `epoch ${chosen}`;
  const labels = Object.entries(told.samples.labels), body = byId("samplerows");
  const head = make("tr", {}, ...labels.map(([label]) => make("th", {}, label)));
  const rows = told.samples.files.map((file, i) => make("tr", { title: file }, ...labels.map(([label, epochs]) =>
    make("td", {}, picture(address("samples/", `epoch${epochName(drawnAt(epochs))}_${i + 1}_${label}.png`), `${label} of ${file}`, Math.min(HEAD.width, SAMPLE))))));
  const same = body.rows.length === rows.length + 1 && body.rows[0].cells.length === labels.length;
  if (!same) { body.replaceChildren(head, ...rows); return; }
  rows.forEach((row, i) => [...row.querySelectorAll("a")].forEach((a, j) => exchange(body.rows[i + 1].cells[j], a)));
}

/* Put a picture in another's place once it is there, so that nothing flickers. */
function exchange(place, fresh) {
  const old = place.querySelector("a"), image = fresh.querySelector("img");
  if (old.getAttribute("href") === fresh.getAttribute("href")) return;
  image.loading = "eager";
  place.dataset.wanted = fresh.getAttribute("href");
  image.decode().catch(() => undefined).then(() => {
    if (place.dataset.wanted === fresh.getAttribute("href")) place.replaceChildren(fresh);
  });
}

function choose(index) {
  const epochs = told.samples.epochs;
  chosen = epochs[Math.min(epochs.length - 1, Math.max(0, index))];
  fill();
}

function play() {
  const slider = byId("epoch"), button = byId("play");
  if (playing) { clearInterval(playing); playing = null; button.textContent = "play"; return; }
  if (Number(slider.value) === Number(slider.max)) slider.value = 0;
  button.textContent = "stop";
  playing = setInterval(() => {
    slider.value = Number(slider.value) + 1;
    choose(Number(slider.value));
    if (Number(slider.value) === Number(slider.max)) play();
  }, 400);
}

/* --- the pictures of every epoch, newest first */

function labelsOf(epoch) {
  return told.rows.filter(([from, to]) => from <= epoch && epoch <= to);
}

function epochs() {
  const newest = Math.max(0, ...told.rows.map((row) => row[1]));
  first = Math.min(first, Math.max(0, newest - 1));
  const wanted = [];
  for (let epoch = newest - first; epoch > Math.max(0, newest - first - PER_PAGE); epoch--) wanted.push(epoch);
  byId("rows").replaceChildren(...wanted.flatMap((epoch) => labelsOf(epoch).flatMap(([, , labels, wide], i) => {
    const cells = labels.map((label) => cell(`epoch${epochName(epoch)}_${label}.png`, label, wide ? 0 : HEAD.width));
    const table = make("div", { class: "scroll" }, make("table", {}, make("tr", {}, ...cells)));
    return i ? [table] : [make("h3", {}, `epoch [${epoch}]`), table];
  })));
  byId("newer").disabled = first === 0;
  byId("older").disabled = first + PER_PAGE >= newest;
  byId("pager").hidden = newest <= PER_PAGE;
  byId("pictures").hidden = newest === 0;
}

function turn(pages) {
  first = Math.max(0, first + pages * PER_PAGE);
  epochs();
  byId("pictures").scrollIntoView();
}

/* --- news */

function show() {
  stands();
  chart.show([{ name: HEAD.name, ...told.curves }]);
  samples();
  if (first === 0 || !byId("rows").children.length) epochs();
}

window.ganvas = {
  take(history) {
    if (history.updated === told.updated) return;
    told = history;
    show();
  },
};

function ask() {
  const script = make("script", { src: `history.js?${Date.now()}` });
  script.onload = script.onerror = () => script.remove();
  document.head.append(script);
}

function listen() {
  setInterval(() => { if (!document.hidden && told.state === "training") ask(); }, 3000);
  setInterval(() => { if (!document.hidden && told.state !== "training") ask(); }, 30000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
  byId("epoch").addEventListener("input", (event) => choose(Number(event.target.value)));
  byId("play").addEventListener("click", play);
  byId("newer").addEventListener("click", () => turn(-1));
  byId("older").addEventListener("click", () => turn(1));
}

document.addEventListener("DOMContentLoaded", () => {
  chart = new Curves(byId("curves"), HEAD.hidden);
  listen();
  show();
  ask();
});
