// The page of a generator that translates a picture: draw or give one on the left, see the result on the right.
"use strict";

const PHOTO_COLOURS = [[255, 255, 255], [20, 20, 20], [200, 40, 40], [240, 150, 40], [250, 220, 60], [70, 160, 70], [50, 110, 200], [120, 80, 50]];

const MAX_OWN_SIDE = 2048; // of a picture that is translated in its own size
const CAMERA_WIDTH = 640;
const FRAME_PAUSE_MS = 60;

/** Return the colours of the easel: those of the run's drawings, else some. */
function easelColours(facts) {
  return facts.colours.length > 1 ? facts.colours : PHOTO_COLOURS;
}

/** Return the noises that a generator takes beside an image of this size. */
function noisesFor({ image: _, labels: __, instances: ___, ...noises }, seed, height, width) {
  return Object.fromEntries(Object.entries(noises).map(([name, shape]) => {
    const dims = shape.length === 3 ? [1, shape[0], height, width] : [1, ...shape];
    return [name, { type: "float32", data: normalNumbers(seed, dims.reduce((a, b) => a * b)), dims }];
  }));
}

/** Build the page in `place`. */
function translatePage(place, facts, engine, say) {
  const classes = facts.inputs.labels ? makeClasses(facts.ids, facts.colours) : null; // of a label map
  const { width, height } = facts;
  const isFree = facts.sizes === "any";
  let source = null; // the picture that was given, in its own size
  let seed = 1;
  let camera = null;
  let isAsking = false; // for the camera
  let isBuilt = false; // before, changes of the easel are not translated

  const colours = easelColours(facts);
  const easel = makeEasel(width, height, colours, facts.kind === "label map",
    () => { if (isBuilt) update(); });
  const result = make("canvas", { width, height, role: "img", "aria-label": "What the generator makes of it" });
  const compare = makeEdge(easel.canvas, result);
  const size = make("select", { "aria-label": "Size" },
    make("option", { value: "run" }, `${width} × ${height}, as it was trained`),
    make("option", { value: "own" }, "the picture's own size"));

  async function update() {
    const pixels = easel.pixels();
    try {
      const answer = await engine.run(inputsOf(pixels));
      if (!answer) return;
      const image = toImage(answer.value);
      showImage(result, image);
      compare.update();
      say(`${Math.round(answer.milliseconds)} ms on ${engine.device}`);
      document.dispatchEvent(new CustomEvent("translated"));
    } catch (problem) {
      say(`This picture cannot be translated: ${problem.message}`);
    }
  }

  function inputsOf(pixels) {
    const given = classes ? classes.inputs(pixels) : { image: toTensor(pixels, facts.inputs.image[0]) };
    return { ...given, ...noisesFor(facts.inputs, seed, pixels.height, pixels.width) };
  }

  function scaled(pixels) {
    const resized = classes ? resizeNearest : resize;
    if (size.value === "own") {
      const shrink = Math.min(1, MAX_OWN_SIDE / Math.max(pixels.width, pixels.height));
      return shrink === 1 ? pixels : resized(pixels, Math.round(pixels.width * shrink), Math.round(pixels.height * shrink));
    }
    return pixels.width === width && pixels.height === height ? pixels : resized(pixels, width, height);
  }

  function give(pixels) {
    source = pixels;
    easel.show(scaled(pixels));
  }

  async function open(file) {
    stopCamera();
    try {
      const bitmap = await createImageBitmap(file);
      const pixels = pixelsOf(bitmap, bitmap.width, bitmap.height);
      const given = classes ? classes.read(pixels) : pixels;
      if (given) give(given);
      else say(`${file.name || "This"} is no label map: its pixels are neither ids nor colours of the classes`);
    } catch {
      say(`${file.name || "This"} is no picture that this browser can read`);
    }
  }

  function stopCamera() {
    camera?.getTracks().forEach((track) => track.stop());
    camera = null;
    cameraButton.textContent = "Camera";
  }

  async function startCamera() {
    if (isAsking) return;
    isAsking = true;
    const video = make("video", { muted: true, playsinline: true });
    try {
      const wanted = { width: { ideal: CAMERA_WIDTH }, facingMode: "environment" };
      camera = await navigator.mediaDevices.getUserMedia({ video: wanted });
      video.srcObject = camera;
      await video.play();
    } catch (problem) {
      stopCamera();
      say(`There is no camera for this page (${problem.message ?? "only https and localhost have one"})`);
      return;
    } finally {
      isAsking = false;
    }
    cameraButton.textContent = "Stop the camera";
    easel.remember();
    const frame = () => {
      if (!camera) return;
      source = pixelsOf(video, video.videoWidth, video.videoHeight, CAMERA_WIDTH);
      easel.watch(scaled(source));
      setTimeout(frame, FRAME_PAUSE_MS);
    };
    frame();
  }

  const picker = make("input", { type: "file", accept: "image/*", hidden: true });
  picker.addEventListener("change", () => { if (picker.files[0]) open(picker.files[0]); picker.value = ""; });
  const cameraButton = makeButton("Camera", () => (camera ? stopCamera() : startCamera()));
  size.addEventListener("change", () => { if (source) easel.show(scaled(source)); });

  const tools = makeTools(easel, colours, classes?.name, () => { stopCamera(); source = null; });
  const given = make("div", { class: "tools" }, makeButton(classes ? "Open a label map" : "Open a picture", () => picker.click()), picker);
  if (!classes) given.append(cameraButton);
  if (isFree) given.append(size);
  if (Object.keys(noisesFor(facts.inputs, 1, height, width)).length) given.append(makeButton("Another result", () => { seed += 1; update(); }));
  const made = make("div", { class: "tools" }, makeButton("Save the result", () => savePng(result, "picture.png")),
    makeButton("Save the drawing", () => savePng(easel.canvas, "drawing.png")), compare.button);
  place.append(
    make("section", { class: "pane" }, make("h2", {}, "You"), easel.canvas, tools, given),
    make("section", { class: "pane" }, make("h2", {}, "The generator"), compare.frame, made),
  );
  isBuilt = true;
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => { if (event.clipboardData.files[0]) open(event.clipboardData.files[0]); });
  return { first: () => inputsOf(easel.pixels()), update };
}

/** Return the tools of an easel: what draws, how thick, and in which colour; cleared() is called before it is cleared.
 * nameOf(colour): what a colour means, if anything.
 */
function makeTools(easel, colours, nameOf, cleared) {
  const { state } = easel;
  const bar = make("div", { class: "tools", role: "toolbar", "aria-label": "Drawing" });
  const kinds = ["pencil", "eraser", "fill"].map((tool) => makeButton(tool[0].toUpperCase() + tool.slice(1), () => choose(tool)));
  const swatches = colours.slice(1).map((colour, i) => {
    const name = nameOf?.(colour) ?? `Colour ${i + 1}`;
    const style = `background: rgb(${colour.join()})`;
    return makeButton("", () => pick(colour), { class: "swatch", style, "aria-label": name, title: name });
  });
  const thickness = make("input", { type: "range", min: 1, max: 40, value: state.size, "aria-label": "Thickness" });

  function choose(tool) {
    state.tool = tool;
    kinds.forEach((each, i) => each.setAttribute("aria-pressed", ["pencil", "eraser", "fill"][i] === tool));
  }

  function pick(colour) {
    state.colour = colour;
    swatches.forEach((swatch, i) => swatch.setAttribute("aria-pressed", colours[i + 1] === colour));
    if (state.tool === "eraser") choose("pencil");
  }

  thickness.addEventListener("input", () => { state.size = Number(thickness.value); });
  bar.append(...kinds, thickness, makeButton("Undo", easel.undo), makeButton("Redo", easel.redo), makeButton("Clear", () => { cleared(); easel.clear(); }));
  const palette = make("div", { class: "tools swatches", role: "toolbar", "aria-label": "Colours" });
  if (swatches.length > 1) palette.append(...swatches);
  choose("pencil");
  pick(state.colour);
  document.addEventListener("keydown", (event) => {
    if (event.target.closest?.("select, input:not([type=range])") || event.altKey) return;
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") (event.shiftKey ? easel.redo : easel.undo)();
      else if (key === "y") easel.redo();
      else return;
    } else if ("pef".includes(key)) {
      choose({ p: "pencil", e: "eraser", f: "fill" }[key]);
    } else if (key === "[" || key === "]") {
      thickness.value = Number(thickness.value) + (key === "]" ? 1 : -1);
      state.size = Number(thickness.value);
    } else if (Number(key) >= 1 && swatches[Number(key) - 1]) {
      pick(colours[Number(key)]);
    } else return;
    event.preventDefault();
  });
  return make("div", {}, bar, palette);
}

/** Return a frame in which a copy of one canvas covers the left of another, up to an edge that can be dragged. */
function makeEdge(left, right) {
  const over = make("canvas", { class: "over", hidden: true });
  const range = make("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, hidden: true, "aria-label": "Edge between drawing and result" });
  const button = make("button", { type: "button", "aria-pressed": "false" }, "Compare");
  const stage = make("div", { class: "stage" }, right, over);
  let dragged = false;

  function move(percent) {
    range.value = percent;
    over.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
  }

  function update() {
    if (over.hidden) return;
    [over.width, over.height] = [left.width, left.height];
    over.getContext("2d").drawImage(left, 0, 0);
  }

  function drag(event) {
    const box = stage.getBoundingClientRect();
    move(Math.min(100, Math.max(0, (100 * (event.clientX - box.left)) / box.width)));
  }

  button.addEventListener("click", () => {
    over.hidden = !over.hidden;
    range.hidden = over.hidden;
    button.setAttribute("aria-pressed", String(!over.hidden));
    update();
    move(range.value);
  });
  range.addEventListener("input", () => move(range.value));
  stage.addEventListener("pointerdown", (event) => {
    if (over.hidden) return;
    event.preventDefault();
    dragged = true;
    stage.setPointerCapture(event.pointerId);
    drag(event);
  });
  stage.addEventListener("pointermove", (event) => { if (dragged) drag(event); });
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { dragged = false; });
  return { frame: make("div", {}, stage, range), button, update };
}
