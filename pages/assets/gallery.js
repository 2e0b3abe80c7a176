// A gallery's tools: search and order over all rows of rows.js, the size of pictures, and clicks that open the viewer.
"use strict";

(() => {
  const PER_PAGE = 100;
  let main, search, order, said, own, found; // elements; own: the page's rows, found: those searched for
  let table = null; // what rows.js holds
  let loading = null;
  let list = []; // rows that were found, in order
  let at = 0; // the page of them that is shown

  /** Load rows.js once; a script element, for a page opened from a disk may fetch nothing. */
  function load() {
    loading ??= new Promise((done) => {
      const script = make("script", { src: main.dataset.rows });
      script.addEventListener("load", () => done(unpacked(window.ganvasRows)));
      script.addEventListener("error", () => done(null));
      document.head.append(script);
    });
    return loading;
  }

  /** Return the table with figures as numbers, and with what searching and ordering need beside each row. */
  function unpacked(raw) {
    if (!raw) return null;
    const number = (value) => (typeof value === "number" ? value : { inf: Infinity, "-inf": -Infinity }[value] ?? NaN);
    for (const row of raw.rows) row[3] = row[3].map(number);
    raw.plain = raw.rows.map((row) => row[0].normalize("NFC").toLowerCase());
    return raw;
  }

  /** Return a value by which a row is ordered: a figure, or the difference of two ("0:2"). */
  function measure(key) {
    const [first, second] = key.split(":").map(Number);
    return second === undefined ? (row) => row[3][first] : (row) => row[3][first] - row[3][second];
  }

  function ordered(places, key) {
    if (!key) return places;
    const down = key.startsWith("-");
    const sign = down ? -1 : 1;
    const plain = down ? key.slice(1) : key;
    if (plain === "name") {
      const { compare } = new Intl.Collator(undefined, { numeric: true });
      return places.sort((a, b) => sign * compare(table.rows[a][0], table.rows[b][0]) || a - b);
    }
    const value = measure(plain);
    const known = (v) => v !== undefined && !Number.isNaN(v);
    return places.sort((a, b) => {
      const [x, y] = [value(table.rows[a]), value(table.rows[b])];
      if (!known(x) || !known(y)) return known(y) - known(x) || a - b; // rows without a figure come last
      return (x === y ? 0 : sign * (x < y ? -1 : 1)) || a - b;
    });
  }

  async function refresh() {
    const words = search.value.normalize("NFC").toLowerCase().trim();
    const idle = !words && !order.value;
    main.classList.toggle("searching", !idle);
    own.hidden = !idle;
    found.hidden = idle;
    if (idle) {
      said.textContent = "";
      found.replaceChildren();
      return;
    }
    if (!table) {
      said.textContent = "reading …";
      table = await load();
      if (!table) {
        said.textContent = "rows.js is not there: neither search nor order";
        own.hidden = false;
        main.classList.remove("searching");
        return;
      }
      refresh(); // the words may have changed meanwhile
      return;
    }
    const places = [];
    table.plain.forEach((name, i) => (!words || name.includes(words)) && places.push(i));
    list = ordered(places, order.value);
    showPage(0);
  }

  function showPage(number) {
    at = number;
    const first = number * PER_PAGE;
    const rows = list.slice(first, first + PER_PAGE);
    found.replaceChildren(...rows.map((place) => rowOf(table, table.rows[place])));
    const range = list.length > PER_PAGE ? `, ${first + 1} to ${first + rows.length} shown` : "";
    said.textContent = list.length ? `${list.length} of ${table.rows.length} rows${range}` : "no row has such a name";
    for (const nav of main.querySelectorAll(".found-pager")) nav.replaceChildren(...steps());
  }

  function steps() {
    const last = Math.ceil(list.length / PER_PAGE) - 1;
    if (last < 1) return [];
    return [[-1, "Previous", at > 0], [1, "Next", at < last]].map(([step, word, can]) => {
      const made = make("button", { type: "button", disabled: !can }, word);
      made.addEventListener("click", () => {
        showPage(at + step);
        main.querySelector(".toolbar").scrollIntoView();
      });
      return made;
    });
  }

  function clicked(event) {
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
    main.addEventListener("click", clicked);
    const size = main.querySelector(".size");
    size.addEventListener("input", () => main.style.setProperty("--width", `${size.value}px`));
    search = main.querySelector(".search");
    if (!search) return; // a page of pictures without rows
    order = main.querySelector(".order");
    said = main.querySelector(".said");
    own = main.querySelector(".rows");
    found = make("div", { class: "rows found", hidden: true });
    own.after(make("nav", { class: "found-pager", "aria-label": "Pages of rows found" }), found,
      make("nav", { class: "found-pager", "aria-label": "Pages of rows found, again" }));
    search.value = order.value = ""; // some browsers keep them over a reload
    search.addEventListener("focus", load, { once: true });
    search.addEventListener("input", refresh);
    order.addEventListener("change", refresh);
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !event.target.matches("input, select, dialog *")) {
        event.preventDefault();
        search.focus();
      }
    });
  }

  document.addEventListener("DOMContentLoaded", start);
})();
