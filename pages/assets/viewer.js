// The viewer: one image as large as the window, zoom, arrow keys for its neighbours, and the slider between two.
"use strict";

const viewer = (() => {
  // The maximum zoom is the larger of these two.
  const MAX_PIXEL_SCALE = 40; // screen pixels per image pixel
  const MAX_FIT_SCALE = 8; // times the scale that fits the window
  const button = (words, text, act) => {
    const element = make("button", { type: "button", "aria-label": words, title: words }, text);
    element.addEventListener("click", act);
    return element;
  };
  let dialog, stage, pane, slider, parts; // elements, made once
  let link = null; // the page's link to the image on show
  let opener = null; // the element that had the focus before
  let comparing = false;
  let view = { scale: 1, x: 0, y: 0 }; // relative to the scale that fits the stage
  const pointers = new Map(); // pointers that are down
  let dragMode = null; // "edge" or "pan"

  const rowOfLink = () => link.closest(".row");
  const linksOf = (row) => [...row.querySelectorAll("a.picture")];
  const rowsShown = () => [...document.querySelectorAll(".rows:not([hidden]) .row")];
  const labelOf = (picture) => picture.querySelector("img").alt;
  const nameOf = (row) => (row.querySelector("h3") ?? document.querySelector("h1")).textContent;
  const pictureSize = () => {
    const image = link.querySelector("img");
    return [Number(image.getAttribute("width")), Number(image.getAttribute("height"))];
  };

  function build() {
    slider = makeSlider();
    pane = make("div", { class: "pane" }, slider.under, slider.over, slider.edge);
    stage = make("div", { class: "stage", tabindex: 0, "aria-label": "Picture; arrow keys show its neighbours" }, pane);
    parts = {
      name: make("strong", { dir: "auto" }),
      what: make("span", { class: "quiet", "aria-live": "polite" }),
      zoom: make("output", { "aria-label": "Zoom" }),
      compare: button("Compare two images (c)", "Compare", () => setComparing(!comparing)),
      labels: make("div", { class: "labels", role: "group", "aria-label": "Pictures of this row" }),
      before: button("Previous row (arrow up)", "↑", () => walkRows(-1)),
      after: button("Next row (arrow down)", "↓", () => walkRows(1)),
    };
    const top = make("header", {}, make("div", { class: "what" }, parts.name, parts.what),
      make("div", { class: "tools" },
        button("Zoom out (-)", "−", () => zoomBy(1 / 1.5)), parts.zoom, button("Zoom in (+)", "+", () => zoomBy(1.5)),
        button("Fit the window (0)", "Fit", fit), parts.compare, button("Close (Escape)", "✕", () => dialog.close())));
    const bottom = make("footer", {}, parts.before, parts.after, parts.labels, slider.bar);
    dialog = make("dialog", { class: "viewer", "aria-label": "Picture viewer" }, top, stage, bottom);
    document.body.append(dialog);
    dialog.addEventListener("close", onClose);
    dialog.addEventListener("keydown", onKeyDown);
    stage.addEventListener("wheel", onWheel, { passive: false });
    stage.addEventListener("pointerdown", onPointerDown);
    stage.addEventListener("pointermove", onPointerMove);
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, onPointerUp);
    stage.addEventListener("dblclick", (event) => (view.scale > 1 ? fit() : zoomBy(3, event)));
    window.addEventListener("resize", () => dialog.open && applyView());
  }

  /** Show an image, given as its link on the page; compare: show the slider with another image of its row. */
  function open(picture, compare = false, from = picture) {
    if (!dialog) build();
    link = picture;
    opener = from;
    dialog.showModal();
    comparing = compare;
    show();
    stage.focus();
  }

  function onClose() {
    const row = rowOfLink();
    const back = opener.isConnected && opener.closest(".row") === row && opener.matches("button") ? opener : link;
    back.focus();
    slider.under.removeAttribute("src");
    slider.over.removeAttribute("src");
  }

  function show() {
    const row = rowOfLink();
    const links = linksOf(row);
    const rows = rowsShown();
    const rowIndex = rows.indexOf(row);
    if (links.length < 2) comparing = false;
    const pictures = links.map((picture) => ({ label: labelOf(picture), source: picture.getAttribute("href") }));
    const current = links.indexOf(link);
    const gallery = document.querySelector("main.gallery").dataset;
    const pair = defaultPair(pictures.map((picture) => picture.label), gallery.left, gallery.right);
    slider.show(pictures, ...(comparing ? pair : [current, current]));
    dialog.classList.toggle("comparing", comparing);
    parts.name.textContent = nameOf(row);
    const [width, height] = pictureSize();
    parts.what.textContent = `${comparing ? "" : labelOf(link) + " · "}${width} × ${height} · ${rowIndex + 1} of ${rows.length}`;
    parts.before.disabled = rowIndex <= 0;
    parts.after.disabled = rowIndex >= rows.length - 1;
    parts.compare.hidden = links.length < 2;
    parts.compare.setAttribute("aria-pressed", comparing);
    parts.labels.hidden = comparing;
    showLabels(links);
    fit();
  }

  function showLabels(links) {
    const had = parts.labels.contains(document.activeElement);
    parts.labels.replaceChildren(...links.map((picture) => {
      const element = make("button", { type: "button", "aria-pressed": String(picture === link), dir: "auto" }, labelOf(picture));
      element.addEventListener("click", () => goTo(picture));
      return element;
    }));
    if (had) parts.labels.querySelector('[aria-pressed="true"]').focus();
  }

  function setComparing(wanted) {
    comparing = wanted;
    show();
  }

  function goTo(picture) {
    if (!picture) return;
    link = picture;
    show();
  }

  /** Go to the previous or next row: to the same label, else to the first image. */
  function walkRows(step) {
    const rows = rowsShown();
    const next = rows[rows.indexOf(rowOfLink()) + step];
    if (!next) return;
    const links = linksOf(next);
    goTo(links.find((picture) => labelOf(picture) === labelOf(link)) ?? links[0]);
    next.scrollIntoView({ block: "nearest" });
  }

  /** Go to the previous or next image, which may be in another row. */
  function walkLabels(step) {
    const all = rowsShown().flatMap(linksOf);
    goTo(all[all.indexOf(link) + step]);
  }

  function onKeyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
    const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.target.matches("input") && (sideways || event.key === "Home" || event.key === "End")) return; // the input handles these keys
    const acts = {
      ArrowUp: () => walkRows(-1), ArrowDown: () => walkRows(1), "+": () => zoomBy(1.5), "=": () => zoomBy(1.5),
      "-": () => zoomBy(1 / 1.5), 0: fit, c: () => !parts.compare.hidden && setComparing(!comparing),
      Home: () => goTo(linksOf(rowsShown()[0])[0]), End: () => goTo(linksOf(rowsShown().at(-1))[0]),
    };
    const act = sideways
      ? () => (comparing ? slider.move(slider.position() + 2 * sideways) : walkLabels(sideways))
      : acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  /** Return the screen pixels per image pixel when the image fits the stage. */
  function fitScale() {
    const [width, height] = pictureSize();
    return Math.min(stage.clientWidth / width, stage.clientHeight / height);
  }

  function fit() {
    view = { scale: 1, x: 0, y: 0 };
    applyView();
  }

  function applyView() {
    const [width, height] = pictureSize();
    const unit = fitScale();
    const limit = (size, whole) => Math.max(0, (size * unit * view.scale - whole) / 2);
    const clamp = (value, most) => Math.min(most, Math.max(-most, value));
    view.x = clamp(view.x, limit(width, stage.clientWidth));
    view.y = clamp(view.y, limit(height, stage.clientHeight));
    pane.style.width = `${width * unit}px`;
    pane.style.height = `${height * unit}px`;
    pane.style.transform = `translate(-50%, -50%) translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    pane.style.setProperty("--thin", 1 / view.scale);
    pane.classList.toggle("pixels", unit * view.scale >= 4);
    parts.zoom.textContent = `${Math.round(unit * view.scale * 100)} %`;
  }

  /** Zoom by a factor; the image point under `point` of the window stays in place. */
  function zoomBy(factor, point = null) {
    const box = stage.getBoundingClientRect();
    const dx = point ? point.clientX - box.left - box.width / 2 : 0;
    const dy = point ? point.clientY - box.top - box.height / 2 : 0;
    const scale = Math.min(Math.max(MAX_FIT_SCALE, MAX_PIXEL_SCALE / fitScale()), Math.max(1, view.scale * factor));
    const ratio = scale / view.scale;
    view = { scale, x: dx - (dx - view.x) * ratio, y: dy - (dy - view.y) * ratio };
    applyView();
  }

  function onWheel(event) {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.03 : 0.0015)), event);
  }

  function onPointerDown(event) {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    const box = pane.getBoundingClientRect();
    const off = Math.abs(event.clientX - box.left - (box.width * slider.position()) / 100);
    dragMode = comparing && (view.scale === 1 || off < 24) ? "edge" : "pan";
    if (dragMode === "edge") onPointerMove(event);
  }

  function onPointerMove(event) {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    pointers.set(event.pointerId, event);
    if (pointers.size > 1) {
      pinch(event, before);
    } else if (dragMode === "edge") {
      const box = pane.getBoundingClientRect();
      slider.move(((event.clientX - box.left) / box.width) * 100);
    } else {
      view.x += event.clientX - before.clientX;
      view.y += event.clientY - before.clientY;
      applyView();
    }
  }

  function pinch(event, before) {
    const other = [...pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
    const apart = (pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY);
    const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
    zoomBy(apart(event) / Math.max(1, apart(before)), middle);
  }

  function onPointerUp(event) {
    pointers.delete(event.pointerId);
  }

  return { open };
})();
