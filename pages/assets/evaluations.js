// The metrics of a run on its training page: a chart for each, with its best epoch, and the newest values of each image.
"use strict";

const MAX_ROWS = 200;  // of the table of images that are shown at once
let metricCharts = {}, measured = null, sortColumn = 0, sortSign = 1;

/* Show a chart for each metric: its values, those of training images, and a mark at the best epoch. */
function showMetrics(metrics) {
  const names = Object.keys(metrics?.metrics ?? {});
  if (!names.length) return;
  document.getElementById("metrics").hidden = false;
  document.getElementById("measured").textContent = displayText(metrics.measured);
  for (const name of names) {
    if (!metricCharts[name]) {
      const host = make("div", { class: "metric" }, make("h3", {}, displayText(name)), make("p", { class: "quiet" }));
      document.getElementById("metriccharts").append(host);
      metricCharts[name] = { text: host.querySelector("p"), chart: new Curves(host, [], 0, "epoch") };
    }
    const { values, training } = metrics.curves, best = metrics.best[name], [value, error, number] = metrics.metrics[name];
    const lines = { [name]: values.lines[name] ?? [] };
    if (training.lines[name]) lines["training images"] = training.lines[name];
    const marks = best ? { [name]: best } : {};
    metricCharts[name].chart.show([{ name, x: values.x, lines, marks }]);
    metricCharts[name].text.textContent = [`epoch ${metrics.epoch}: ${value === null ? "no number" : formatNumber(value)}`,
      error !== null && `standard error ${formatNumber(error)}`, `${number} images`,
      best && `best in epoch ${best[0]}: ${formatNumber(best[1])}`].filter(Boolean).join(", ");
  }
}

/* Show the values of each image; a click on a column's name sorts by it, a second click the other way. */
function showMeasuredImages() {
  const table = document.getElementById("imagevalues");
  document.getElementById("measuredimages").hidden = !measured?.rows.length;
  if (!measured?.rows.length) return;
  document.getElementById("imagecount").textContent = `the ${measured.rows.length} images of epoch ${measured.epoch}`
    + (measured.rows.length > MAX_ROWS ? `, the first ${MAX_ROWS} in this order` : "");
  const head = make("tr", {}, ...["image", ...measured.columns].map((name, i) => {
    const arrow = i === sortColumn ? (sortSign > 0 ? " ▲" : " ▼") : "";
    const button = make("button", { type: "button", "data-column": i }, displayText(name) + arrow);
    button.addEventListener("click", () => { sortSign = i === sortColumn ? -sortSign : 1; sortColumn = i; showMeasuredImages(); });
    return make("th", { scope: "col" }, button);
  }));
  const rows = [...measured.rows].sort((a, b) => sortSign * compareCells(a[sortColumn], b[sortColumn])).slice(0, MAX_ROWS);
  table.replaceChildren(head, ...rows.map(([name, ...values]) => make("tr", {}, make("td", {}, displayText(name)),
    ...values.map((value) => make("td", { class: "number" }, value === null ? "no number" : formatNumber(value))))));
}

function compareCells(a, b) {
  if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
  return a === null || b === null ? (a === null) - (b === null) : a - b;
}

/* Load the values of the images when a newer evaluation was written. */
function requestMeasuredImages(epoch) {
  if (!epoch || measured?.epoch === epoch) return;
  const script = make("script", { src: `metrics.js?${epoch}` });
  script.onload = script.onerror = () => script.remove();
  document.head.append(script);
}

function takeMeasuredImages(fresh) { measured = fresh; showMeasuredImages(); }
