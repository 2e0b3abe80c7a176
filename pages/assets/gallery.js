// A gallery's tools: search and order over all rows of rows.js, the image size, and clicks that open the viewer.
"use strict";

(() => {
  const PER_PAGE = 100;
  let main, search, order, status, pageRows, foundRows; // elements; foundRows holds the rows that a search found
  let table = null; // the content of rows.js
  let loading = null;
  let matches = []; // indices of the rows found, in order
  let pageNumber = 0; // the page of matches on show

  /** Load rows.js once, with a script element because a page opened from disk cannot use fetch. */
  function load() {
    loading ??= new Promise((done) => {
      const script = make("script", { src: main.dataset.rows });
      script.addEventListener("load", () => done(unpackTable(window.ganvasRows)));
      script.addEventListener("error", () => done(null));
      document.head.append(script);
    });
    return loading;
  }

  /** Return the table with metrics as numbers, and with the names as the search compares them (`plain`). */
  function unpackTable(raw) {
    if (!raw) return null;
    const number = (value) => (typeof value === "number" ? value : { inf: Infinity, "-inf": -Infinity }[value] ?? NaN);
    for (const row of raw.rows) row[3] = row[3].map(number);
    raw.plain = raw.rows.map((row) => row[0].normalize("NFC").toLowerCase());
    return raw;
  }

  /** Return a function that gives a row's sort value: a metric ("0"), or the difference of two ("0:2"). */
  function sortValue(key) {
    const [first, second] = key.split(":").map(Number);
    return second === undefined ? (row) => row[3][first] : (row) => row[3][first] - row[3][second];
  }

  function sortRows(indices, key) {
    if (!key) return indices;
    const down = key.startsWith("-");
    const sign = down ? -1 : 1;
    const plain = down ? key.slice(1) : key;
    if (plain === "name") {
      const { compare } = new Intl.Collator(undefined, { numeric: true });
      return indices.sort((a, b) => sign * compare(table.rows[a][0], table.rows[b][0]) || a - b);
    }
    const value = sortValue(plain);
    const isNumber = (v) => v !== undefined && !Number.isNaN(v);
    return indices.sort((a, b) => {
      const [x, y] = [value(table.rows[a]), value(table.rows[b])];
      if (!isNumber(x) || !isNumber(y)) return isNumber(y) - isNumber(x) || a - b; // rows without a value come last
      return (x === y ? 0 : sign * (x < y ? -1 : 1)) || a - b;
    });
  }

  async function updateRows() {
    const query = search.value.normalize("NFC").toLowerCase().trim();
    const isIdle = !query && !order.value;
    main.classList.toggle("searching", !isIdle);
    pageRows.hidden = !isIdle;
    foundRows.hidden = isIdle;
    if (isIdle) {
      status.textContent = "";
      foundRows.replaceChildren();
      return;
    }
    if (!table) {
      status.textContent = "reading …";
      table = await load();
      if (!table) {
        status.textContent = "rows.js is missing, so search and order do not work";
        pageRows.hidden = false;
        main.classList.remove("searching");
        return;
      }
      updateRows(); // the query may have changed while rows.js was loading
      return;
    }
    const indices = [];
    table.plain.forEach((name, i) => (!query || name.includes(query)) && indices.push(i));
    matches = sortRows(indices, order.value);
    showPage(0);
  }

  function showPage(number) {
    pageNumber = number;
    const first = number * PER_PAGE;
    const rows = matches.slice(first, first + PER_PAGE);
    foundRows.replaceChildren(...rows.map((index) => makeRow(table, table.rows[index])));
    const range = matches.length > PER_PAGE ? `, ${first + 1} to ${first + rows.length} shown` : "";
    status.textContent = matches.length ? `${matches.length} of ${table.rows.length} rows${range}` : "no row has this name";
    for (const nav of main.querySelectorAll(".found-pager")) nav.replaceChildren(...pagerButtons());
  }

  function pagerButtons() {
    const last = Math.ceil(matches.length / PER_PAGE) - 1;
    if (last < 1) return [];
    return [[-1, "Previous", pageNumber > 0], [1, "Next", pageNumber < last]].map(([step, word, can]) => {
      const button = make("button", { type: "button", disabled: !can }, word);
      button.addEventListener("click", () => {
        showPage(pageNumber + step);
        main.querySelector(".toolbar").scrollIntoView();
      });
      return button;
    });
  }

  function onClick(event) {
    const picture = event.target.closest("a.picture");
    const compare = event.target.closest("button.compare");
    if (picture && !(event.ctrlKey || event.metaKey || event.shiftKey || event.button)) {
      event.preventDefault();
      viewer.open(picture);
    } else if (compare) {
      viewer.open(compare.closest(".row").querySelector("a.picture"), true, compare);
    }
  }

  function start() {
    document.documentElement.classList.add("js");
    main = document.querySelector("main.gallery");
    main.addEventListener("click", onClick);
    const size = main.querySelector(".size");
    size.addEventListener("input", () => main.style.setProperty("--width", `${size.value}px`));
    search = main.querySelector(".search");
    if (!search) return; // a page of tiles, without rows
    order = main.querySelector(".order");
    status = main.querySelector(".said");
    pageRows = main.querySelector(".rows");
    foundRows = make("div", { class: "rows found", hidden: true });
    pageRows.after(make("nav", { class: "found-pager", "aria-label": "Pages of rows found" }), foundRows,
      make("nav", { class: "found-pager", "aria-label": "Pages of rows found, again" }));
    search.value = order.value = ""; // because some browsers keep them over a reload
    search.addEventListener("focus", load, { once: true });
    search.addEventListener("input", updateRows);
    order.addEventListener("change", updateRows);
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !event.target.matches("input, select, dialog *")) {
        event.preventDefault();
        search.focus();
      }
    });
  }

  document.addEventListener("DOMContentLoaded", start);
})();
