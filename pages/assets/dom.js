// Make a gallery's elements from data, equal to those of rows.py; names become only text and encoded URLs, never HTML.
"use strict";

/** Return an element with attributes (false: omitted, true: empty) and children (elements or texts). */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Return a name that can be displayed: bytes that are not UTF-8 become U+FFFD. */
function displayText(name) {
  return name.replace(/\p{Surrogate}/gu, "\ufffd");
}

/** Return a file's relative URL; names hold bytes that are not UTF-8 as U+DC80 to U+DCFF. */
function relativeUrl(base, file) {
  let encoded = "";
  for (const sign of file) {
    const code = sign.codePointAt(0);
    if (sign === "/") encoded += sign;
    else if (code >= 0xdc80 && code <= 0xdcff) encoded += "%" + (code - 0xdc00).toString(16).toUpperCase();
    else encoded += encodeURIComponent(sign).replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());
  }
  return base + encoded;
}

/** Return a value with four significant digits, formatted like C's %.4g. */
function formatNumber(value) {
  if (Number.isNaN(value)) return "-";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  const [digits, power] = value.toExponential(3).split("e");
  if (value !== 0 && (power < -4 || power >= 4)) {
    const short = digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits;
    return short + "e" + power[0] + power.slice(1).padStart(2, "0");
  }
  return Number(value.toPrecision(4)).toString();
}

/** Return the index of the only best value, -1 if `better` is unknown or several values are best. */
function bestIndex(values, better) {
  const numbers = values.filter((value) => !Number.isNaN(value));
  if (!better || numbers.length < 2) return -1;
  const best = better === "lower" ? Math.min(...numbers) : Math.max(...numbers);
  return numbers.filter((value) => value === best).length === 1 ? values.indexOf(best) : -1;
}

/** Return the paragraphs with a row's metrics. */
function makeMetrics(columns, metrics) {
  if (!columns.some((column) => column.run)) {
    const text = columns.map((column, i) => `${column.metric} ${formatNumber(metrics[i])}`).join(", ");
    return [make("p", { class: "figures" }, displayText(text))];
  }
  return [...new Set(columns.map((column) => column.metric))].map((metric) => {
    const runMetrics = columns.map((column, i) => [column, metrics[i]]).filter(([column]) => column.metric === metric);
    const best = bestIndex(runMetrics.map(([, value]) => value), runMetrics[0][0].better);
    const cells = runMetrics.map(([column, value], i) =>
      make("span", { class: i === best ? "best" : "figure" },
        make("span", { dir: "auto" }, displayText(column.run)), " " + formatNumber(value)));
    return make("p", { class: "figures" }, make("b", {}, displayText(metric)), ...cells);
  });
}

/** Return one image with its label, as a cell of a row. */
function makeCell(source, width, height, label) {
  const image = make("img", { src: source, width, height, loading: "lazy", decoding: "async", alt: displayText(label) });
  return make("td", {}, make("a", { class: "picture", href: source }, image),
    make("span", { class: "label", dir: "auto" }, displayText(label)));
}

/** Return a row of rows.js as an element. */
function makeRow(table, [name, kind, size, metrics, extra = {}]) {
  const { stem = name, stems = [], wide = false, side = [], page = "", said = "" } = extra;
  const sizes = table.sizes[size];
  const head = make("div", { class: "head" }, make("h3", { dir: "auto" }, displayText(name)));
  if (page) head.append(make("a", { class: "more", href: relativeUrl("", page) }, displayText(said)));
  if (metrics.length) head.append(...makeMetrics(table.columns, metrics));
  const pictures = table.kinds[kind].map(([label, tail, base], i) =>
    makeCell(relativeUrl(base, (stems[i] ?? stem) + tail), sizes[2 * i], sizes[2 * i + 1], label));
  if (pictures.length > 1) head.append(make("button", { type: "button", class: "compare js" }, "Compare"));
  if (side.length) {
    const names = side.map((text) => make("span", { dir: "auto" }, displayText(text)));
    pictures.unshift(make("td", { class: "side" }, make("div", {}, ...names)));
  }
  return make("section", { class: wide ? "row wide" : "row" }, head,
    make("table", { role: "presentation" }, make("tbody", {}, make("tr", {}, ...pictures))));
}
