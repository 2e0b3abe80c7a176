// The losses of compared runs, drawn when their section is opened.
"use strict";

(() => {
  const { runs } = JSON.parse(document.getElementById("data").textContent);
  const section = document.getElementById("losses");
  section?.addEventListener("toggle", () => new Curves(document.getElementById("curves")).show(runs), { once: true });
})();
