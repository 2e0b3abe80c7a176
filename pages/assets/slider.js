// The slider between two overlaid images of equal size: the first one is visible left of the edge.
"use strict";

/** Return a slider: the elements under, over and edge (for the pane), its toolbar, and the functions that drive it. */
function makeSlider() {
  const under = make("img", { alt: "", class: "under", draggable: "false" });
  const over = make("img", { alt: "", class: "over", draggable: "false" });
  const edge = make("div", { class: "edge" });
  const range = make("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, "aria-label": "Edge between the two" });
  const selects = [make("select", { "aria-label": "Left picture" }), make("select", { "aria-label": "Right picture" })];
  const swap = make("button", { type: "button", "aria-label": "Swap left and right" }, "⇄");
  const bar = make("div", { class: "slider" }, selects[0], range, selects[1], swap);
  let pictures = [];

  /** Move the edge to a percentage of the width. */
  function move(percent) {
    range.value = Math.min(100, Math.max(0, percent));
    over.style.clipPath = `inset(0 0 0 ${range.value}%)`;
    edge.style.left = `${range.value}%`;
    const [left, right] = labels();
    range.setAttribute("aria-valuetext", `${Math.round(range.value)} % ${left}, the rest ${right}`);
  }

  function labels() {
    return selects.map((select) => pictures[select.value]?.label ?? "");
  }

  function update() {
    [under, over].forEach((image, i) => {
      const picture = pictures[selects[i].value];
      image.src = picture.source;
      image.alt = picture.label;
    });
    move(Number(range.value));
  }

  /** Show two images of a row, given as indices into a list of {label, source}. */
  function show(list, left, right) {
    pictures = list;
    for (const select of selects) {
      select.replaceChildren(...list.map((picture, i) => make("option", { value: i }, picture.label)));
    }
    selects[0].value = left;
    selects[1].value = right;
    update();
  }

  range.addEventListener("input", () => move(Number(range.value)));
  selects.forEach((select) => select.addEventListener("change", update));
  swap.addEventListener("click", () => show(pictures, selects[1].value, selects[0].value));
  return { under, over, edge, bar, show, move, labels, position: () => Number(range.value) };
}

/** Return the indices of the two labels of a row that are compared first. */
function defaultPair(labels, left, right) {
  const findLabel = (wanted, start, not) => {
    const exact = labels.indexOf(wanted);
    if (wanted && exact >= 0) return exact;
    return labels.findIndex((label, i) => label.startsWith(start) && i !== not);
  };
  const first = Math.max(0, findLabel(left, "real"));
  const second = findLabel(right, "fake", first);
  return [first, second >= 0 && second !== first ? second : first === 0 ? Math.min(1, labels.length - 1) : 0];
}
