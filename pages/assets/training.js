// The training page: takes the newest history beside it every few seconds and shows it, without reloading.
"use strict";

const HEAD = JSON.parse(document.getElementById("data").textContent);
const PER_PAGE = 20;  // epochs
const SAMPLE = 160;  // pixels: the width of a fixed sample, at most
let told = HEAD.history;  // the newest that is known
let chart, first = 0, chosen = null, playing = null;

const byId = (id) => document.getElementById(id);
const epochName = (epoch) => String(epoch).padStart(3, "0");

/* width: 0 for pictures that are shown as wide as they are. With both sides known nothing jumps while it loads. */
function picture(source, text, label, width) {
  const image = make("img", { src: source, alt: shown(text), loading: "lazy", decoding: "async" });
  const [across, down] = told.sizes[label] ?? [0, 0];
  if (across) { image.width = width || across; image.height = (down * (width || across)) / across; }
  if (width) image.style.width = `${width}px`;
  return make("a", { href: source }, image);
}

function cell(source, label, width) {
  return make("td", {}, picture(source, label, label, width), make("p", {}, shown(label)));
}

/* --- where the run stands */

function stands() {
  const ago = Date.now() / 1000 - told.updated;
  const quiet = told.state === "training" && ago > 120;
  const state = quiet ? `no news for ${duration(ago)}: killed, or a long step` : told.state;
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
    make("td", {}, picture(address("samples/", `epoch${epochName(drawnAt(epochs))}_${i + 1}_${label}.png`), `${label} of ${file}`, label, Math.min(HEAD.width, SAMPLE))))));
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
  return told.rows.filter(([from, to, , , step]) => from <= epoch && epoch <= to && (epoch - from) % step === 0);
}

/* The newest epoch's files are replaced while it lasts: another address has the browser read them again. */
function row(epoch, newest) {
  const version = epoch === newest ? `?${told.updated}` : "";
  const file = (label) => address("images/", `epoch${epochName(epoch)}_${label}.png`) + version;
  const tables = labelsOf(epoch).map(([, , labels, wide]) => {
    const cells = labels.map((label) => cell(file(label), label, wide ? 0 : HEAD.width));
    return make("div", { class: "scroll" }, make("table", {}, make("tr", {}, ...cells)));
  });
  const kept = { "data-epoch": epoch, "data-tables": tables.length, "data-version": version };
  return make("section", kept, make("h3", {}, `epoch [${epoch}]`), ...tables);
}

/* Rows that are there already stay the same elements, so that whoever reads them is not moved. */
function epochs() {
  const newest = Math.max(0, ...told.rows.map((span) => span[1]));
  first = Math.min(first, Math.max(0, newest - 1));
  const body = byId("rows"), wanted = [];
  for (let epoch = newest - first; epoch > Math.max(0, newest - first - PER_PAGE); epoch--) {
    if (labelsOf(epoch).length) wanted.push(epoch);
  }
  const there = new Map([...body.children].map((section) => [Number(section.dataset.epoch), section]));
  for (const [epoch, section] of there) {
    const changed = epoch === newest ? section.dataset.version !== `?${told.updated}` : section.dataset.version;
    const stale = !wanted.includes(epoch) || Number(section.dataset.tables) !== labelsOf(epoch).length || changed;
    if (stale) { section.remove(); there.delete(epoch); }
  }
  let before = null;
  for (const epoch of wanted.reverse()) {
    const section = there.get(epoch) ?? row(epoch, newest);
    if (section.nextSibling !== before || !section.parentNode) body.insertBefore(section, before);
    before = section;
  }
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
    if (history.updated === told.updated) { stands(); return; }
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
