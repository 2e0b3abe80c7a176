// Starts the page: loads the generator, then builds what fits it. The body is marked ready once the first picture is shown.
"use strict";

document.addEventListener("DOMContentLoaded", async () => {
  const facts = JSON.parse(document.getElementById("data").textContent);
  const status = document.getElementById("status");
  const say = (text) => { status.textContent = text; };
  const engine = makeEngine();
  const build = facts.inputs.image || facts.inputs.labels ? translatePage : samplePage;
  let ready = false;
  let pending = 0;

  /** Run the generator once it is loaded; the body says whether it is at work. */
  async function run(...inputs) {
    if (!ready) return null;
    document.body.dataset.busy = String(++pending > 0);
    try {
      return await engine.run(...inputs);
    } finally {
      document.body.dataset.busy = String(--pending > 0);
    }
  }

  const generator = { get device() { return engine.device; }, run };
  const page = build(document.getElementById("place"), facts, generator, say);
  say("The generator is being loaded …");
  try {
    engine.device = (await engine.start(page.first())).value;
    ready = true;
    await page.update();
    document.body.dataset.ready = engine.device;
  } catch (problem) {
    const hint = location.protocol === "file:" ? "; a browser loads it from a web server alone: python -m http.server" : "";
    say(`The generator cannot be loaded: ${problem.message}${hint}`);
  }
});
