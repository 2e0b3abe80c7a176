// Draw the losses of compared runs when their section is opened.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const { runs } = JSON.parse(document.getElementById("data").textContent);
  const draw = () => new Curves(document.getElementById("curves")).show(runs);
  document.getElementById("losses")?.addEventListener("toggle", draw, { once: true });
});
