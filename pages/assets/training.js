// The training page: load the newest history.js every few seconds and show it without reloading the page.
"use strict";

const PAGE_DATA = JSON.parse(document.getElementById("data").textContent);
const PER_PAGE = 20;  // epochs
const MAX_SAMPLE_WIDTH = 160;  // pixels
const CELL_PADDING = 14;  // pixels of a cell besides its image, as style.css has them
let runHistory = PAGE_DATA.history;  // the newest one loaded
let chart, newestOffset = 0, chosenEpoch = null, playTimer = null;

const byId = (id) => document.getElementById(id);
const epochName = (epoch) => String(epoch).padStart(3, "0");

/* Return an image that links to its file. width: 0 leaves the width to the page's style. Width and height are set if
   known, so that the page does not jump while the image loads. */
function makePicture(source, text, label, width) {
  const image = make("img", { src: source, alt: displayText(text), loading: "lazy", decoding: "async" });
  const [across, down] = runHistory.sizes[label] ?? [0, 0];
  if (across) { image.width = width || across; image.height = (down * (width || across)) / across; }
  if (width) image.style.width = `${width}px`;
  return make("a", { href: source }, image);
}

/* --- status of the run */

function showStatus() {
  const ago = Date.now() / 1000 - runHistory.updated;
  const quiet = runHistory.state === "training" && ago > 120;
  const state = quiet ? `no news for ${duration(ago)}: killed, or a long step` : runHistory.state;
  byId("state").textContent = `epoch ${runHistory.epoch} of ${runHistory.last_epoch}, step ${runHistory.step.toLocaleString("en")}: ${state}`;
  byId("updated").textContent = [`updated ${new Date(runHistory.updated * 1000).toLocaleString()}`, runHistory.left && `about ${duration(runHistory.left)} to go`,
    runHistory.lr && `learning rate ${formatNumber(runHistory.lr)}`, runHistory.spent].filter(Boolean).join(" · ");
  byId("progress").value = runHistory.share;
  byId("notes").replaceChildren(...runHistory.notes.map(([name, evidence, advice]) =>
    make("li", {}, make("b", {}, `${name}: `), `${evidence}; ${advice}.`)));
  byId("health").hidden = !runHistory.notes.length;
}

function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  return minutes < 1 ? `${Math.round(seconds)} s` : minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/* --- fixed samples */

function showSamples() {
  const epochs = runHistory.samples.epochs;
  byId("samples").hidden = !epochs.length;
  if (!epochs.length) return;
  const slider = byId("epoch"), last = epochs.length - 1;
  const follow = chosenEpoch === null || Number(slider.value) === Number(slider.max);
  slider.max = last;
  if (follow) { slider.value = last; chosenEpoch = epochs[last]; }
  byId("epochs").replaceChildren(...epochs.map((e, i) => make("option", { value: i, label: e })));
  fillSamples();
}

/* Return the newest epoch, up to the chosen one, with a file for this label; images that never change have one file. */
function sampleEpoch(epochs) {
  return epochs.filter((e) => e <= chosenEpoch).pop() ?? epochs[0];
}

function fillSamples() {
  byId("chosen").textContent = `epoch ${chosenEpoch}`;
  const body = byId("samplerows"), rows = runHistory.samples.files.length ? sampleRows() : sheetRows();
  const same = body.rows.length === rows.length && body.rows[0].cells.length === rows[0].cells.length && body.dataset.drawn;
  body.dataset.drawn = "true";
  if (!same) { body.replaceChildren(...rows); return; }
  rows.forEach((row, i) => [...row.querySelectorAll("a")].forEach((link) => replacePicture(body.rows[i].cells[link.closest("td").cellIndex], link)));
}

/* Return a row for each file of the fixed samples, below a row of labels. */
function sampleRows() {
  const labels = Object.entries(runHistory.samples.labels);
  const head = make("tr", {}, ...labels.map(([label]) => make("th", {}, label)));
  return [head, ...runHistory.samples.files.map((file, i) => make("tr", { title: file }, ...labels.map(([label, epochs]) =>
    make("td", {}, makePicture(relativeUrl("samples/", `epoch${epochName(sampleEpoch(epochs))}_${i + 1}_${label}.png`), `${label} of ${file}`, label, Math.min(PAGE_DATA.width, MAX_SAMPLE_WIDTH))))))];
}

/* Return a row for each generated sheet; the names of its classes stand beside its rows of images. */
function sheetRows() {
  const sheets = Object.entries(runHistory.samples.labels), names = sheets.length === 1 ? runHistory.row_names ?? [] : [];
  return sheets.map(([label, epochs]) => {
    const source = relativeUrl("images/", `epoch${epochName(sampleEpoch(epochs))}_${label}.png`);
    const classes = make("div", { class: "classes" }, ...names.map((name) => make("div", {}, displayText(name))));
    const caption = sheets.length > 1 ? [make("p", {}, displayText(label))] : [];
    return make("tr", {}, make("td", {}, make("div", { class: "sheet" }, classes, makePicture(source, label, label, 0)), ...caption));
  });
}

/* Replace an image once the new one is decoded, so that nothing flickers. */
function replacePicture(place, fresh) {
  const old = place.querySelector("a"), image = fresh.querySelector("img");
  if (old.getAttribute("href") === fresh.getAttribute("href")) return;
  image.loading = "eager";
  place.dataset.wanted = fresh.getAttribute("href");
  image.decode().catch(() => undefined).then(() => {
    if (place.dataset.wanted === fresh.getAttribute("href")) place.querySelector("a").replaceWith(fresh);
  });
}

function chooseEpoch(index) {
  const epochs = runHistory.samples.epochs;
  chosenEpoch = epochs[Math.min(epochs.length - 1, Math.max(0, index))];
  fillSamples();
}

function play() {
  const slider = byId("epoch"), button = byId("play");
  if (playTimer) { clearInterval(playTimer); playTimer = null; button.textContent = "play"; return; }
  if (Number(slider.value) === Number(slider.max)) slider.value = 0;
  button.textContent = "stop";
  playTimer = setInterval(() => {
    slider.value = Number(slider.value) + 1;
    chooseEpoch(Number(slider.value));
    if (Number(slider.value) === Number(slider.max)) play();
  }, 400);
}

/* --- the images of every epoch, newest first */

function epochTables(epoch) {
  return runHistory.rows.filter(([from, to, , , step]) => from <= epoch && epoch <= to && (epoch - from) % step === 0);
}

/* Return the labels in lines, as label_lines in pages/training.py does. */
function labelLines(labels) {
  const starts = labels.map((_, i) => i).filter((i) => labels[i].startsWith("real_"));
  const lines = starts.map((start, i) => labels.slice(start, starts[i + 1]));
  const even = lines.every((line) => line.length >= 3 && line.length * lines.length === labels.length);
  return lines.length && even ? lines : [labels];
}

/* Return an epoch's section. The newest epoch's files are still being replaced, so a new URL makes the browser reload
   them. */
function makeEpoch(epoch, newest) {
  const version = epoch === newest ? `?${runHistory.updated}` : "";
  const file = (label) => relativeUrl("images/", `epoch${epochName(epoch)}_${label}.png`) + version;
  const tables = epochTables(epoch).map(([, , labels, wide]) => {
    const lines = labelLines(labels), width = wide ? 0 : lines[0].length * (PAGE_DATA.width + CELL_PADDING);
    const cell = (label) => make("td", {}, makePicture(file(label), label, label, 0), make("p", {}, displayText(label)));
    const table = make("table", {}, ...lines.map((line) => make("tr", {}, ...line.map(cell))));
    if (width) table.style.maxWidth = `${width}px`;
    return table;
  });
  const attributes = { "data-epoch": epoch, "data-tables": tables.length, "data-version": version };
  return make("section", attributes, make("h3", {}, `epoch [${epoch}]`), ...tables);
}

/* Show the current page of epochs. Sections that do not change stay the same elements, so that the page does not scroll. */
function showEpochs() {
  const newest = Math.max(0, ...runHistory.rows.map((span) => span[1]));
  newestOffset = Math.min(newestOffset, Math.max(0, newest - 1));
  const body = byId("rows"), wanted = [];
  for (let epoch = newest - newestOffset; epoch > Math.max(0, newest - newestOffset - PER_PAGE); epoch--) {
    if (epochTables(epoch).length) wanted.push(epoch);
  }
  const sections = new Map([...body.children].map((section) => [Number(section.dataset.epoch), section]));
  for (const [epoch, section] of sections) {
    const changed = epoch === newest ? section.dataset.version !== `?${runHistory.updated}` : section.dataset.version;
    const stale = !wanted.includes(epoch) || Number(section.dataset.tables) !== epochTables(epoch).length || changed;
    if (stale) { section.remove(); sections.delete(epoch); }
  }
  let nextSection = null;
  for (const epoch of wanted.reverse()) {
    const section = sections.get(epoch) ?? makeEpoch(epoch, newest);
    if (section.nextSibling !== nextSection || !section.parentNode) body.insertBefore(section, nextSection);
    nextSection = section;
  }
  byId("newer").disabled = newestOffset === 0;
  byId("older").disabled = newestOffset + PER_PAGE >= newest;
  byId("pager").hidden = newest <= PER_PAGE;
  byId("pictures").hidden = newest === 0;
}

function turnPages(pages) {
  newestOffset = Math.max(0, newestOffset + pages * PER_PAGE);
  showEpochs();
  byId("pictures").scrollIntoView();
}

/* --- updates */

function show() {
  showStatus();
  chart.show([{ name: PAGE_DATA.name, ...runHistory.curves }]);
  showMetrics(runHistory.metrics);
  requestMeasuredImages(runHistory.metrics?.epoch);
  showSamples();
  if (newestOffset === 0 || !byId("rows").children.length) showEpochs();
}

window.ganvas = {
  take(history) {
    if (history.updated === runHistory.updated) { showStatus(); return; }
    runHistory = history;
    show();
  },
  takeImages: takeMeasuredImages,
};

function requestHistory() {
  const script = make("script", { src: `history.js?${Date.now()}` });
  script.onload = script.onerror = () => script.remove();
  document.head.append(script);
}

function addListeners() {
  setInterval(() => { if (!document.hidden && runHistory.state === "training") requestHistory(); }, 3000);
  setInterval(() => { if (!document.hidden && runHistory.state !== "training") requestHistory(); }, 30000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) requestHistory(); });
  byId("epoch").addEventListener("input", (event) => chooseEpoch(Number(event.target.value)));
  byId("play").addEventListener("click", play);
  byId("newer").addEventListener("click", () => turnPages(-1));
  byId("older").addEventListener("click", () => turnPages(1));
}

document.addEventListener("DOMContentLoaded", () => {
  chart = new Curves(byId("curves"), PAGE_DATA.hidden);
  addListeners();
  show();
  requestHistory();
});
