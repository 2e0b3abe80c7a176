// The page of a generator that draws from noise: seeds, sliders, classes, and a walk from one picture to another.
"use strict";

const SHEET = 12; // small pictures to choose from
const WALK_STEPS = 24; // from one picture to the next

/** Build the page in `place`. */
function samplePage(place, facts, engine, say) {
  const count = facts.inputs.z.reduce((a, b) => a * b);
  const { width, height, classes, directions } = facts;
  const state = { seed: 1, z: normalNumbers(1, count), label: 0, walking: false };
  let [sheetCall, walkCall] = [0, 0]; // the newest calls; earlier ones end
  const picture = make("canvas", { width, height, role: "img", "aria-label": "The picture" });
  const sheet = make("div", { class: "sheet" });

  function inputs(zs, label) {
    const data = new Float32Array(zs.length * count);
    zs.forEach((z, i) => data.set(z, i * count));
    const labels = BigInt64Array.from(zs, () => BigInt(label));
    return { z: { type: "float32", data, dims: [zs.length, ...facts.inputs.z] }, label: { type: "int64", data: labels, dims: [zs.length] } };
  }

  async function show() {
    try {
      const answer = await engine.run(inputs([state.z], state.label));
      if (!answer) return;
      showImage(picture, toImage(answer.value));
      say(`${Math.round(answer.milliseconds)} ms on ${engine.device}`);
      document.dispatchEvent(new CustomEvent("translated"));
    } catch (problem) {
      say(`No picture can be drawn: ${problem.message}`);
    }
  }

  function take(z) {
    state.z = z;
    sliders.forEach((slider, k) => { slider.value = along(z, directions[k]); });
    return show();
  }

  async function fillSheet() {
    const call = ++sheetCall;
    sheet.replaceChildren();
    for (let i = 0; i < SHEET; i++) {
      const z = normalNumbers(state.seed + i, count);
      const answer = await engine.run(inputs([z], state.label), true).catch((problem) => say(`No picture can be drawn: ${problem.message}`));
      if (!answer || call !== sheetCall) return;
      const canvas = make("canvas", {});
      showImage(canvas, toImage(answer.value));
      const choice = make("button", { type: "button", class: "choice", "aria-label": `Picture ${i + 1}` }, canvas);
      choice.addEventListener("click", () => { state.walking = false; take(z); });
      sheet.append(choice);
    }
  }

  async function walk() {
    state.walking = !state.walking;
    const call = ++walkCall;
    walkButton.textContent = state.walking ? "Stop" : "Walk";
    for (let leg = 1; state.walking && call === walkCall; leg++) {
      const [from, to] = [state.z, normalNumbers(state.seed + 1000 + leg, count)];
      for (let i = 1; i <= WALK_STEPS && state.walking && call === walkCall; i++) {
        await take(between(from, to, i / WALK_STEPS));
        await new Promise(requestAnimationFrame);
      }
    }
    if (call === walkCall) walkButton.textContent = "Walk";
  }

  const sliders = directions.map((_, k) =>
    make("input", { type: "range", min: -3, max: 3, step: 0.01, "aria-label": `Direction ${k + 1}` }));
  sliders.forEach((slider) => slider.addEventListener("input", () => {
    state.walking = false;
    state.z = withCoordinates(state.z, directions, sliders.map((each) => Number(each.value)));
    show();
  }));
  const walkButton = makeButton("Walk", walk);
  const more = makeButton("New pictures", () => { state.seed += SHEET; fillSheet(); });
  const names = make("div", { class: "tools", role: "toolbar", "aria-label": "Classes" }, ...classes.map((name, label) =>
    makeButton(displayText(name), (event) => {
      state.label = label;
      for (const each of names.children) each.setAttribute("aria-pressed", each === event.currentTarget);
      show();
      fillSheet();
    }, { "aria-pressed": String(label === 0) })));
  place.append(
    make("section", { class: "pane" }, make("h2", {}, "The picture"), make("div", { class: "stage" }, picture), names,
      make("div", { class: "tools" }, walkButton, makeButton("Save the picture", () => savePng(picture, "picture.png")))),
    make("section", { class: "pane" }, make("h2", {}, "Change it"),
      make("div", { class: "sliders" }, ...sliders), make("h2", {}, "Or choose another"), sheet, make("div", { class: "tools" }, more)),
  );
  return { first: () => inputs([state.z], 0), update: async () => { await take(state.z); await fillSheet(); } };
}
